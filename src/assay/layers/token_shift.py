"""Token shift: each position mixed with the one before it, which may come from an earlier call.

Shapes: B batch, T tokens of this call, D d_model, S mixtures of the same input.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import product_dtype


class ShiftState(NamedTuple):
    """The last input seen, [B, D], in the type of the activations; [B, 0] without a shift."""

    shift: Tensor


def shift_difference(x: Float[Tensor, "B T D"], last: Float[Tensor, "B D"] | None) -> Float[Tensor, "B T D"]:
    """x_{t-1} - x_t, where x_{-1} is `last`, or zeros for None."""
    first = torch.zeros_like(x[:, :1]) if last is None else last.to(x.dtype).unsqueeze(1)
    return torch.cat((first, x[:, :-1]), 1) - x


def last_input(x: Float[Tensor, "B T D"], kept: bool) -> Float[Tensor, "B E"]:
    """What the next call needs of this one: the last input, E = D, or nothing where there is no shift, E = 0."""
    return x[:, -1].clone() if kept else x.new_empty(len(x), 0)


def mixtures(
    x: Float[Tensor, "B T D"], difference: Float[Tensor, "B T D"], shares: Float[Tensor, "S #B #T D"]
) -> Float[Tensor, "S B T D"]:
    """x + difference * share for each of S shares at once, in the type of the products that follow."""
    dtype = product_dtype(x)
    return torch.addcmul(x.to(dtype), difference.to(dtype), shares.to(dtype))
