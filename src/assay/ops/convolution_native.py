"""Calls of the C++ form of the short causal convolution (native/convolution.cpp), and of its gradient.

Shapes: B batch, T tokens, D channels, W filter width, V = W - 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run

WIDEST = 8
"""The widest filters that it has."""


def _forward(
    x: Float[Tensor, "B T D"], state: Float[Tensor, "B V D"], weight: Float[Tensor, "D W"], bias: Float[Tensor, " D"]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    x, state, filters, bias = _in_rows(x), state.contiguous(), _wide(weight), _wide(bias)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    run("convolution", f"convolution_{NAMES[x.dtype]}", (x, state, filters, bias, y), _sizes(x, weight))
    return (y,), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dy,), (x, state, weight, bias) = gradients, saved
    x, state, filters = _in_rows(x), state.contiguous(), _wide(weight)
    dx, d_state = (torch.empty_like(y, memory_format=torch.contiguous_format) for y in (x, state))
    d_weight, d_bias = torch.empty_like(filters), torch.empty_like(bias, dtype=torch.float32)
    tensors = (dy.contiguous(), x, state, filters, dx, d_state, d_weight, d_bias)
    run("convolution", f"convolution_gradient_{NAMES[x.dtype]}", tensors, _sizes(x, weight))
    return dx, d_state, d_weight.to(weight.dtype), d_bias.to(bias.dtype)


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the channels of a token do not stand side by side."""
    return x if x.stride(2) == 1 else x.contiguous()


def _wide(x: Tensor) -> Tensor:
    return x.float().contiguous()


def _sizes(x: Tensor, weight: Tensor) -> list[int]:
    return [*x.shape, weight.shape[1], torch.get_num_threads(), *x.stride()[:2]]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Two segments behind a state, an odd number of channels."""
    generator = torch.Generator().manual_seed(0)
    x, state, weight, bias = (
        torch.randn(shape, generator=generator) for shape in ((2, 83, 37), (2, 3, 37), (37, 4), (37,))
    )
    return (x.to(dtype), state.to(dtype), weight, bias), ()


def _takes(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Filters in float64 would have sums in it."""
    return x.dtype == state.dtype and torch.float64 not in (weight.dtype, bias.dtype) and weight.shape[1] <= WIDEST


CONVOLUTION_NATIVE = Native("convolution", ("convolution",), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3))
