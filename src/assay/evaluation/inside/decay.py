"""Half-lives, from what is left of a change after some tokens. Shapes: P numbers of tokens."""

import math
from collections.abc import Sequence

import numpy as np

Floats = np.ndarray
SMALLEST = 1e-30
"""Stands for a change of which nothing is left, so that it has a logarithm."""


def half_lives(tokens: Sequence[int], left: Floats) -> Floats:
    """[...] the number of tokens at which `left` [P, ...] first falls to one half; infinite where it never does.

    `left` is what of a change is left after `tokens` [P], rising; it is one after none. Between two numbers of tokens
    it is taken to fall exponentially, which is exact for a decay that stays the same.
    """
    curve = np.concatenate([np.ones((1, *left.shape[1:])), left])
    at = np.concatenate([[0], np.asarray(tokens)]).astype(np.float64)
    below = curve <= 0.5
    first = below.argmax(axis=0)
    crosses = below.any(axis=0)
    first = np.where(crosses, first, 1)
    before = np.take_along_axis(curve, first[None] - 1, axis=0)[0]
    after = np.maximum(np.take_along_axis(curve, first[None], axis=0)[0], SMALLEST)
    share = np.log(np.where(crosses, before, 1.0) / 0.5) / np.log(np.where(crosses, before / after, 2.0))
    found: Floats = np.where(crosses, at[first - 1] + share * (at[first] - at[first - 1]), np.inf)
    return found


def quantile(values: Floats, share: float) -> float | None:
    """The least of `values` that `share` of them do not exceed; None where it is infinite, or there are none."""
    if values.size == 0:
        return None
    found = float(np.quantile(values, share, method="inverted_cdf"))
    return found if math.isfinite(found) else None
