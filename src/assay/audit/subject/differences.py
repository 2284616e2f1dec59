"""How far two tensors are apart, where infinities and NaN are values like others, and the scale to measure it by.

Shapes: B batch, T tokens, V vocabulary.
"""

import math

import torch
from torch import Tensor


def change(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| of each element in float64: 0 where both are the same infinity or NaN, else inf beside one."""
    if before.is_complex() or after.is_complex():
        return change(*(torch.view_as_real(tensor.to(torch.complex128)) for tensor in (before, after))).amax(-1)
    difference = (after.double() - before.double()).abs_()
    if difference.numel() == 0 or bool(difference.amax() < math.inf):  # false for NaN too
        return difference
    same = (before == after) | (before.isnan() & after.isnan())
    return difference.masked_fill_(same, 0.0).nan_to_num_(math.inf, math.inf, math.inf)


def spread(logits: Tensor) -> float:
    """The root mean square of how far logits [B, T, V] are from position 0's, over sqrt 2; of the logits where T = 1.

    A constant added to an id's logits (a mask of -1e9 over padded ids) has no part in it.
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
