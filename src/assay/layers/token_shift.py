"""The state of a token shift: the last input.

Shapes: B batch, T tokens of this call, D d_model.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class ShiftState(NamedTuple):
    """The last input seen, [B, D], in the type of the activations; [B, 0] without a shift."""

    shift: Tensor


def last_input(x: Float[Tensor, "B T D"], kept: bool) -> Float[Tensor, "B E"]:
    """What the next call needs of this one: the last input, E = D, or nothing where there is no shift, E = 0."""
    return x[:, -1].clone() if kept else x.new_empty(len(x), 0)
