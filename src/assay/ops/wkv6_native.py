"""Calls of the C++ form of the RWKV-6 recurrence (native/wkv6.cpp), and of its gradient.

It has no chunks; the state is kept before each of n segments of SEGMENT tokens.

Shapes: B batch, T tokens, H heads, K key width, V value width, Kp and Vp those widths filled up to whole tiles.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run

SEGMENT = 32
SIDE = 16
"""Tokens of a segment and width of a tile, as in the source."""


def _forward(
    r: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H K"],
    bonus: Float[Tensor, "H K"],
    state: Float[Tensor, "B H K V"],
    *_: int,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Outputs and last state, and the state before each segment, [B, H, n, Kp, Vp] in float32."""
    (B, T, H, K), V = r.shape, v.shape[3]
    r, k, v, log_decay = (_in_rows(x) for x in (r, k, v, log_decay))
    y, final = v.new_empty(B, T, H, V), state.new_empty(B, H, K, V)
    kept = state.new_empty(B, H, -(-T // SEGMENT), -(-K // SIDE) * SIDE, -(-V // SIDE) * SIDE)
    tensors = (r, k, v, log_decay, bonus.contiguous(), state.contiguous(), y, final, kept)
    run("wkv6", f"wkv6_{NAMES[r.dtype]}", tensors, _sizes(r, k, v, log_decay))
    return (y, final), (kept,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], *_: int) -> tuple[Tensor, ...]:
    (dy, dfinal), (r, k, v, log_decay, bonus, kept) = gradients, saved
    r, k, v, log_decay = (_in_rows(x) for x in (r, k, v, log_decay))
    found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (r, k, v, log_decay, bonus, dfinal)]
    by_row = bonus.new_empty(len(r), *bonus.shape)
    tensors = (dy.contiguous(), dfinal.contiguous(), r, k, v, log_decay, bonus.contiguous(), kept, *found, by_row)
    run("wkv6", f"wkv6_gradient_{NAMES[r.dtype]}", tensors, _sizes(r, k, v, log_decay))
    return tuple(found)


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the entries of a head do not stand side by side."""
    return x if x.stride(3) == 1 else x.contiguous()


def _sizes(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> list[int]:
    strides = [stride for x in (r, k, v, log_decay) for stride in x.stride()[:3]]
    return [*r.shape, v.shape[3], torch.get_num_threads(), *strides]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Several segments, the last not full, odd widths of two tiles and one, decays of which some are hard."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 75, 2, 18), (2, 75, 2, 18), (2, 75, 2, 5), (2, 75, 2, 18), (2, 18), (2, 2, 18, 5))
    r, k, v, log_decay, bonus, state = (torch.randn(shape, generator=generator) for shape in shapes)
    return (r.to(dtype), k.to(dtype), v.to(dtype), -torch.exp(log_decay), bonus, state), (16,)


def _takes(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, state: Tensor, *_: int) -> bool:
    return r.dtype == k.dtype == v.dtype and all(x.dtype == torch.float32 for x in (log_decay, bonus, state))


WKV6_NATIVE = Native("wkv6", ("wkv6",), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3, 4))
