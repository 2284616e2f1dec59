"""Calls of the C++ form of causal attention (native/attention.cpp), and of its gradient.

Shapes: B batch, T queries, S keys, H heads, G heads of keys and values, K key width, V value width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run


def _forward(
    q: Float[Tensor, "B T H K"], k: Float[Tensor, "B S G K"], v: Float[Tensor, "B S G V"], option: list[int]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs, and the logarithm of the sum of each query's exponentials, [B, T, H] in float32."""
    q, k, v = (_in_rows(x) for x in (q, k, v))
    y, sums = q.new_empty(*q.shape[:3], v.shape[3]), q.new_empty(q.shape[:3], dtype=torch.float32)
    run("attention", f"attention_{NAMES[q.dtype]}", (q, k, v, y, sums), _sizes(q, k, v, option))
    return (y,), (sums,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], option: list[int]) -> tuple[Tensor, ...]:
    (dy,), (q, k, v, y, sums) = gradients, saved
    q, k, v = (_in_rows(x) for x in (q, k, v))
    found = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    tensors = (dy.contiguous(), q, k, v, y, sums, *found)
    run("attention", f"attention_gradient_{NAMES[q.dtype]}", tensors, _sizes(q, k, v, option))
    return found


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the entries of a head do not stand side by side."""
    return x if x.stride(3) == 1 else x.contiguous()


def _sizes(q: Tensor, k: Tensor, v: Tensor, option: list[int]) -> list[int]:
    strides = [stride for x in (q, k, v) for stride in x.stride()[:3]]
    (B, T, H, K), (S, G), V = q.shape, k.shape[1:3], v.shape[3]
    return [B, T, S, H, G, K, V, option[1], torch.get_num_threads(), *strides]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Two groups of heads, odd widths, queries of two tiles behind a state."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 70, 4, 7), (2, 90, 2, 7), (2, 90, 2, 5))
    q, k, v = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return (q, k, v), ([32, 80, 0],)


def _takes(q: Tensor, k: Tensor, v: Tensor, *more: object) -> bool:
    """Not with weights to drop, which are more operands."""
    return len(more) == 1 and q.dtype == k.dtype == v.dtype


ATTENTION_NATIVE = Native(
    "attention", ("attention", "sliding_attention"), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3)
)
