"""Which cross-entropy of the logits a score is: of which token, over how many ids, as a mean or a sum.

Shapes: B rows, T tokens, W width of the logits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Reading(NamedTuple):
    """One way to read a score as a cross-entropy.

    `shift` is 1 for the next token (0 the one just read), `width` the number of ids in the softmax, and `reduction`
    "each" for one number per token, "mean" or "sum" over tokens, or "mean of rows", the mean of the rows' sums.
    """

    shift: int
    width: int
    reduction: str


def readings(nats: Tensor, logits: Tensor, ids: Tensor, widths: Sequence[int], slack: float) -> set[Reading]:
    """All readings under which `nats`, [] or [B, T - shift], is a cross-entropy of the logits [B, T, W]."""
    found = set()
    for width in dict.fromkeys(widths):
        for shift in (1, 0, 2):
            expected = cross_entropy(logits[..., :width], ids, shift)
            if nats.ndim == 2 and nats.shape == expected.shape and close(nats, expected, slack):
                found.add(Reading(shift, width, "each"))
            if nats.ndim == 0 and expected.numel() > 0:
                found |= {Reading(shift, width, how) for how in reductions(nats, expected, slack)}
    return found


def reductions(nats: Tensor, expected: Tensor, slack: float) -> set[str]:
    """The reductions of `expected` [B, T - shift] that give the number `nats` []."""
    ways = {"mean": expected.mean(), "sum": expected.sum(), "mean of rows": expected.sum() / len(expected)}
    found = {name for name, value in ways.items() if close(nats, value, slack)}
    return found | ({"each"} if found and expected.numel() == 1 else set())


def close(first: Tensor, second: Tensor, slack: float) -> bool:
    """Whether all elements are equal up to `slack`, absolute plus relative. Infinities equal themselves; NaN nothing"""
    return torch.allclose(first, second, rtol=slack, atol=slack)


def cross_entropy(logits: Tensor, ids: Tensor, shift: int = 1) -> Tensor:
    """Nats [B, T - shift] of the token that stands `shift` places after each position."""
    count = ids.shape[1] - shift
    return -logits[:, :count].log_softmax(-1).gather(-1, ids[:, shift:, None])[..., 0]
