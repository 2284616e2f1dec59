"""Calls of the C++ form of layer normalisation (native/layer_norm.cpp), and of its gradient.

Shapes: G groups, D channels of a group.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run


def _forward(
    x: Float[Tensor, "*B G D"], weight: Float[Tensor, "G D"], bias: Float[Tensor, "G D"], eps: float
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs; the means and 1 / sqrt(var + eps), [*B, G, 2]."""
    x = x.contiguous()
    y, kept = torch.empty_like(x), x.new_empty((*x.shape[:-1], 2), dtype=torch.float32)
    added = x.new_tensor(eps, dtype=torch.float32)
    run("layer_norm", f"layer_norm_{NAMES[x.dtype]}", (x, _wide(weight), _wide(bias), added, y, kept), _sizes(x))
    return (y,), (kept,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: float) -> tuple[Tensor, ...]:
    (dy,), (x, weight, kept) = gradients, saved
    x, wide = x.contiguous(), _wide(weight)
    dx, d_weight, d_bias = torch.empty_like(x), torch.empty_like(wide), torch.empty_like(wide)
    tensors = (dy.to(x.dtype).contiguous(), x, wide, kept, dx, d_weight, d_bias)
    run("layer_norm", f"layer_norm_gradient_{NAMES[x.dtype]}", tensors, _sizes(x))
    return dx, d_weight.to(weight.dtype), d_bias.to(weight.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float().contiguous()


def _sizes(x: Tensor) -> list[int]:
    G, D = x.shape[-2:]
    return [x.numel() // (G * D), G, D, torch.get_num_threads()]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """More tokens than a segment has, in two groups of an odd number of channels."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((3, 29, 2, 37), (2, 37), (2, 37)))
    return (x.to(dtype), weight, bias), (1e-5,)


def _takes(x: Tensor, weight: Tensor, bias: Tensor, _: float) -> bool:
    """A weight in float64 would have sums in it; one of another shape is for torch to refuse or to broadcast."""
    same = weight.shape == bias.shape == x.shape[-2:] and weight.dtype == bias.dtype
    return same and x.numel() > 0 and weight.dtype != torch.float64


LAYER_NORM_NATIVE = Native("layer_norm", (), _forward, _gradient, _example, _takes, keeps=(0, 1))
