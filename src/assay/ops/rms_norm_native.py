"""Calls of the C++ form of root mean square normalisation (native/rms_norm.cpp), and of its gradient."""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run


def _forward(
    x: Float[Tensor, "*B D"], weight: Float[Tensor, " D"], eps: float
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs, and 1 / sqrt(mean(x^2) + eps) [*B, 1]."""
    x, wide = x.contiguous(), _wide(weight)
    y = torch.empty_like(x)
    rates = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    added = x.new_tensor(eps, dtype=torch.float32)
    run("rms_norm", f"rms_norm_{NAMES[x.dtype]}", (x, wide, added, y, rates), _sizes(x))
    return (y,), (rates,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: float) -> tuple[Tensor, ...]:
    (dy,), (x, weight, rates) = gradients, saved
    x, wide = x.contiguous(), _wide(weight)
    dx, d_weight = torch.empty_like(x), torch.empty_like(wide)
    tensors = (dy.contiguous(), x, wide, rates, dx, d_weight)
    run("rms_norm", f"rms_norm_gradient_{NAMES[x.dtype]}", tensors, _sizes(x))
    return dx, d_weight.to(weight.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float().contiguous()


def _sizes(x: Tensor) -> list[int]:
    return [x.numel() // x.shape[-1], x.shape[-1], torch.get_num_threads()]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """More rows than a segment has, of an odd number of entries."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((3, 29, 37), (37,)))
    return (x.to(dtype), weight), (1e-6,)


def _takes(x: Tensor, weight: Tensor, _: float) -> bool:
    """A weight in float64 would have sums in it; one of another width is for torch to refuse or to broadcast."""
    return x.numel() > 0 and weight.dtype != torch.float64 and weight.shape == x.shape[-1:]


RMS_NORM_NATIVE = Native("rms_norm", (), _forward, _gradient, _example, _takes, keeps=(0, 1))
