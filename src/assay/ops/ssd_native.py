"""Calls of the C++ form of state space duality (native/ssd.cpp), and of its gradient.

Shapes: B batch, T tokens, H heads, P head width, N state width, G groups, R = H / G heads of a group, n chunks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import equal_chunks
from assay.ops.native.kernels import NAMES, Native, run

LONGEST = 64
"""Tokens of a chunk: longer ones would take more products, and no longer fit the cache."""


def _forward(
    x: Float[Tensor, "B T H P"],
    scale: Float[Tensor, "B T H"],
    skip: Float[Tensor, " H"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"],
    longest: int,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """y and the last state, and the state before each chunk, [B, G, n, N, R P] in the type of b and c."""
    B, T, H, P = x.shape
    G, N = b.shape[2:]
    x, log_decay, b, c = (_in_rows(y) for y in (x, log_decay, b, c))
    number, _ = equal_chunks(T, min(longest, LONGEST))
    y, last = state.new_empty(x.shape), torch.empty_like(state, memory_format=torch.contiguous_format)
    starts = b.new_empty(B, G, number, N, H // G * P)
    inputs = (x, scale.contiguous(), skip.contiguous(), log_decay, b, c, state.contiguous())
    run("ssd", f"ssd_{NAMES[b.dtype]}", (*inputs, y, last, starts), _sizes(x, log_decay, b, c, longest))
    return (y, last), (starts,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], longest: int) -> tuple[Tensor, ...]:
    x, scale, skip, log_decay, b, c, starts = saved
    x, log_decay, b, c = (_in_rows(y) for y in (x, log_decay, b, c))
    d_skip = skip.new_empty(x.shape[0], *skip.shape)
    like = (x, scale, log_decay, b, c, gradients[1])
    dx, d_scale, *found = (torch.empty_like(y, memory_format=torch.contiguous_format) for y in like)
    inputs = (*(y.contiguous() for y in gradients), x, scale.contiguous(), skip.contiguous(), log_decay, b, c, starts)
    sizes = _sizes(x, log_decay, b, c, longest)
    run("ssd", f"ssd_gradient_{NAMES[b.dtype]}", (*inputs, dx, d_scale, d_skip, *found), sizes)
    return dx, d_scale, d_skip.sum(0), *found


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the entries of its last axis do not stand side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _sizes(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, longest: int) -> list[int]:
    B, T, H, P = x.shape
    _, length = equal_chunks(T, min(longest, LONGEST))
    strides = [*x.stride()[:3], *log_decay.stride()[:2], *b.stride()[:3], *c.stride()[:3]]
    return [B, T, H, *b.shape[2:3], P, b.shape[3], length, torch.get_num_threads(), *strides]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Two groups of heads, of which some are hard, odd widths, three chunks behind a state."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 83, 4, 5), (2, 83, 4), (4,), (2, 83, 4), (2, 83, 2, 7), (2, 83, 2, 7), (2, 4, 5, 7))
    x, scale, skip, logs, b, c, state = (torch.randn(shape, generator=generator) for shape in shapes)
    log_decay = -logs.abs() * torch.tensor([0.01, 0.1, 0.5, 5.0])
    return (x.to(dtype), scale, skip, log_decay, b.to(dtype), c.to(dtype), state), (32,)


def _takes(x: Tensor, scale: Tensor, skip: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, *_: object) -> bool:
    """Where x, b and c are of one type and the others in float32; the state is, where log decays are."""
    return x.dtype == b.dtype == c.dtype and scale.dtype == skip.dtype == log_decay.dtype == torch.float32


SSD_NATIVE = Native("ssd", ("ssd",), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3, 4, 5))
