"""Calls of the C++ form of state space duality (native/ssd.cpp), and of its gradient.

Shapes: B batch, T tokens, H heads, P head width, N state width, G groups, R = H / G heads of a group, n chunks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import equal_chunks
from assay.ops.native.kernels import KERNELS, NAMES, Native, run

LONGEST = 64
"""Tokens of a chunk: longer ones would take more products, and no longer fit the cache."""


def _forward(
    x: Float[Tensor, "B T H P"],
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
    y, last = (torch.empty_like(z, memory_format=torch.contiguous_format) for z in (x, state))
    starts = b.new_empty(B, G, number, N, H // G * P)
    tensors = (x, log_decay, b, c, state.contiguous(), y, last, starts)
    run("ssd", f"ssd_{NAMES[b.dtype]}", tensors, _sizes(x, log_decay, b, c, longest))
    return (y, last), (starts,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], longest: int) -> tuple[Tensor, ...]:
    *operands, starts = saved
    x, log_decay, b, c = (_in_rows(y) for y in operands)
    found = [torch.empty_like(y, memory_format=torch.contiguous_format) for y in (x, log_decay, b, c, gradients[1])]
    tensors = (*(y.contiguous() for y in gradients), x, log_decay, b, c, starts, *found)
    run("ssd", f"ssd_gradient_{NAMES[b.dtype]}", tensors, _sizes(x, log_decay, b, c, longest))
    return tuple(found)


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
    x, logs, b, c, state = (
        torch.randn(shape, generator=generator)
        for shape in ((2, 83, 4, 5), (2, 83, 4), (2, 83, 2, 7), (2, 83, 2, 7), (2, 4, 5, 7))
    )
    log_decay = -logs.abs() * torch.tensor([0.01, 0.1, 0.5, 5.0])
    return (x, log_decay, b.to(dtype), c.to(dtype), state), (32,)


def _takes(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor, _longest: int) -> bool:
    """Where all but b and c are in float32, and those in a type that was checked."""
    wide = x.dtype == log_decay.dtype == state.dtype == torch.float32
    return wide and b.dtype == c.dtype and ("ssd_chunked", b.dtype) in KERNELS.ready


SSD_NATIVE = Native("ssd", ("ssd",), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3))
