"""Differences of arms over seeds, and their standard errors: half from the pair's own seeds, half from all pairs.

Shapes: R repeats, k arms, n seeds.
"""

from typing import NamedTuple

import numpy as np

OWN_SHARE = 0.5
"""The pair's own part of its variance; the rest is the mean over all pairs."""
MOST_BORROWED = 4.0
"""The mean over all pairs counts at most so many times the pair's own variance, so that one erratic arm does not
hide what the others show."""


class Moments(NamedTuple):
    """Of scores [R, k, n]: the means of arms [R, k], and the covariances of arms over seeds [R, k, k]."""

    means: np.ndarray
    covariances: np.ndarray
    seeds: int


class Differences(NamedTuple):
    """Of every two arms a and b: the mean of a - b over seeds, and its standard error; each [R, k, k]."""

    mean: np.ndarray
    error: np.ndarray


def moments(scores: np.ndarray) -> Moments:
    """The moments of scores [R, k, n], of at least two arms and two seeds."""
    k, n = scores.shape[-2:]
    if k < 2 or n < 2:
        raise ValueError(f"differences need two arms and two seeds or more, not {k} and {n}")
    means = scores.mean(-1)
    residuals = scores - means[..., None]
    return Moments(means, residuals @ residuals.swapaxes(-1, -2) / (n - 1), n)


def differences(scores: np.ndarray) -> Differences:
    """Means and standard errors of scores [R, k, n], of at least two arms and two seeds."""
    # What a seed does to all arms changes no difference, but sums in which it cancels would lose digits.
    return of_moments(moments(scores - scores.mean(-2, keepdims=True)))


def of_moments(of: Moments) -> Differences:
    """Means and standard errors of scores with these moments.

    A seed gives all arms the same batches, so that what it does to all of them cancels in a - b. With v the variance
    of a - b over seeds and V the mean of v over all pairs, the error is sqrt((v / 2 + min(V, 4 v) / 2) / n). From few
    seeds v alone is often far too small by chance, and V alone is wrong where arms differ in their noise. Why a half
    and why 4: docs/statistics.md.
    """
    k = of.means.shape[-1]
    own = np.diagonal(of.covariances, axis1=-2, axis2=-1)
    variance = np.maximum(own[..., :, None] + own[..., None, :] - 2 * of.covariances, 0.0)
    over_pairs = variance.sum((-2, -1), keepdims=True) / (k * (k - 1))
    borrowed = np.minimum(over_pairs, MOST_BORROWED * variance)
    error = np.sqrt((OWN_SHARE * variance + (1 - OWN_SHARE) * borrowed) / of.seeds)
    return Differences(of.means[..., :, None] - of.means[..., None, :], error)
