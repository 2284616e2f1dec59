"""Token shift: the difference of each position to the one before it, which may come from an earlier call.

Shapes: B batch, T tokens of this call, D d_model.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class ShiftState(NamedTuple):
    """The last input seen, [B, D], in the type of the activations."""

    shift: Tensor


def shift_difference(x: Float[Tensor, "B T D"], last: Float[Tensor, "B D"] | None) -> Float[Tensor, "B T D"]:
    """x_{t-1} - x_t, where x_{-1} is `last`, or zeros for None."""
    first = torch.zeros_like(x[:, :1]) if last is None else last.to(x.dtype).unsqueeze(1)
    return torch.cat((first, x[:, :-1]), 1) - x
