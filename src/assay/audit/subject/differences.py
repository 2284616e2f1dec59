"""How far two tensors are apart, with infinities and NaN compared like other values, and a scale for such differences.

Shapes: B batch, T tokens, V vocabulary.
"""

import math

import torch
from torch import Tensor


def change(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| elementwise in float64: 0 where both are the same infinity or NaN, inf where only one is."""
    if before.is_complex() or after.is_complex():
        return change(*(torch.view_as_real(tensor.to(torch.complex128)) for tensor in (before, after))).amax(-1)
    difference = (after.double() - before.double()).abs_()
    if difference.numel() == 0 or bool(difference.amax() < math.inf):  # false for NaN too
        return difference
    same = (before == after) | (before.isnan() & after.isnan())
    return difference.masked_fill_(same, 0.0).nan_to_num_(math.inf, math.inf, math.inf)


def spread(logits: Tensor) -> float:
    """The root mean square of the differences of logits [B, T, V] to those at position 0, divided by sqrt 2.

    A constant added to an id's logits, such as a mask of -1e9 on unused ids, does not count so. Where T = 1, the root
    mean square of the logits themselves.
    """
    flat = logits.double().flatten(0, -2)
    moved = (flat[1:] - flat[0]) / math.sqrt(2)
    size = _root_mean_square(moved)
    return size if size > 0 else _root_mean_square(flat)


def size(tensor: Tensor) -> float:
    """The root mean square of the finite elements."""
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return _root_mean_square(values.double())


def _root_mean_square(values: Tensor) -> float:
    values = values[values.isfinite()]
    if values.numel() == 0:
        return 0.0
    largest = values.abs().max().item()
    return largest * (values / largest).square().mean().sqrt().item() if largest > 0 else 0.0
