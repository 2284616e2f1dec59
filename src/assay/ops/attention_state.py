"""What attention keeps of the tokens seen: their keys and values, growing, or in buffers whose shapes stay.

Shapes: B batch, T tokens of this call, C tokens that buffers hold, G heads of keys and values, K key width, V value
width.
"""

from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor


class AttentionState(NamedTuple):
    """Keys and values of the tokens seen: [B, C, G, K] and [B, C, G, V], of which the first `length` are filled.

    C equals `length` for a state that grows. With a capacity, C is larger and a call without gradients writes
    into the buffers, so that the state passed in must not be used again. Where `length` is a tensor, a call of one
    token does so too, and no shape changes from call to call: see `with_room`.
    """

    keys: Tensor
    values: Tensor
    length: int | Int[Tensor, ""]


class WindowState(NamedTuple):
    """Keys [B, M, G, K] and values [B, M, G, V] of the last M = min(length, window - 1) of `length` tokens seen.

    Where `length` is a tensor, M is fixed and token number i lies at i modulo M: see `with_room`.
    """

    keys: Tensor
    values: Tensor
    length: int | Int[Tensor, ""]


Cache = TypeVar("Cache", AttentionState, WindowState)


def with_room(state: Cache, slots: int, length: Int[Tensor, ""]) -> Cache:
    """A copy of `state`, whose tokens are the last up to number `length`, in buffers of `slots` tokens.

    Token number i lies at i modulo `slots`. A call of one token writes into the buffers and sees what they hold, so
    that all shapes stay as they are, which a compiled graph needs.
    """
    held = state.length if isinstance(state, AttentionState) else state.keys.shape[1]
    end = int(length)
    first = max(end - int(held), end - slots)
    places = torch.arange(first, end, device=state.keys.device) % slots

    def moved(tokens: Tensor, buffer: Tensor) -> Tensor:
        buffer[:, places] = tokens[:, int(held) - len(places) : int(held)]
        return buffer

    B, _, G, K = state.keys.shape
    keys = state.keys.new_zeros(B, G, K, slots).permute(0, 3, 1, 2)  # scores of all tokens are summed side by side
    values = state.values.new_zeros(B, slots, *state.values.shape[2:])
    return type(state)(moved(state.keys, keys), moved(state.values, values), length)


def appended(state: AttentionState | None, k: Float[Tensor, "B T G K"], v: Float[Tensor, "B T G V"]) -> AttentionState:
    """`state` with the keys and values of T more tokens, written into its buffers where they have room."""
    if state is None:
        if not torch.is_grad_enabled():  # views would keep the whole projection, which training holds anyway
            k, v = k.clone(), v.clone()
        return AttentionState(k, v, k.shape[1])
    before = int(state.length)
    length = before + k.shape[1]
    if length <= state.keys.shape[1] and not torch.is_grad_enabled():
        state.keys[:, before:length] = k
        state.values[:, before:length] = v
        return AttentionState(state.keys, state.values, length)
    keys = torch.cat([state.keys[:, :before], k], 1)
    return AttentionState(keys, torch.cat([state.values[:, :before], v], 1), length)
