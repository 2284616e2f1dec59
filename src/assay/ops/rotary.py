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
    half = x.shape[-1] // 2
    # Angles in float64: at position 10^5 a float32 would be off by a hundredth of a radian.
    places = torch.arange(x.shape[1], dtype=torch.float64, device=x.device) + position
    frequencies = base ** (torch.arange(half, dtype=torch.float64, device=x.device) / -half)
    angles = (places[:, None] * frequencies)[:, None]
    dtype = torch.promote_types(x.dtype, torch.float32)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    left, right = x.to(dtype).chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1).to(x.dtype)
