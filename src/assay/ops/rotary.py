"""Rotary position embedding: each pair of a head's channels turned by an angle that grows with the position.

Su et al. 2021, arXiv:2104.09864, eq. 34; channel i is paired with channel i + K/2, as Llama's weights expect.

Shapes: B batch, T tokens of this call, H heads, K head width (even).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotate(
    x: Float[Tensor, "B T H K"], position: int | Int[Tensor, ""], base: float = 10000.0
) -> Float[Tensor, "B T H K"]:
    """Turn the pair i of token t by the angle (position + t) base^(-2i/K).

    `position` is the place of the first token. Products of turned queries and keys depend on the distance alone.
    The turning is in float32 or wider; the result has the dtype of x.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    tokens, half = x.shape[1], x.shape[-1] // 2
    if isinstance(position, int):
        turns = _turns_from(position, tokens, half, base, dtype, x.device)
    else:
        turns = _turns(torch.arange(tokens, dtype=torch.float64, device=x.device) + position, half, base, dtype)
    cos, sin = turns[0, :, None], turns[1, :, None]
    left, right = x.to(dtype).chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1).to(x.dtype)


def _turns(places: Float[Tensor, " T"], half: int, base: float, dtype: torch.dtype) -> Float[Tensor, "2 T half"]:
    """Cosines and sines of the angles at `places`."""
    # Angles in float64: at position 10^5 a float32 would be off by a hundredth of a radian.
    frequencies = base ** (torch.arange(half, dtype=torch.float64, device=places.device) / -half)
    angles = places[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()]).to(dtype)


@torch.library.custom_op("assay::rotary_turns", mutates_args=())
def _turns_from(position: int, tokens: int, half: int, base: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`_turns` of `tokens` places from `position` on: a node of its own, or compilers form the angles for each head."""
    places = torch.arange(position, position + tokens, dtype=torch.float64, device=device)
    return _turns(places, half, base, dtype)


@_turns_from.register_fake
def _(_position: int, tokens: int, half: int, _base: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(2, tokens, half, dtype=dtype, device=device)
