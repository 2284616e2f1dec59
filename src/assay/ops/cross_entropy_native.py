"""Calls of the C++ form of the cross-entropy of a linear head (native/cross_entropy.cpp).

Shapes: N tokens, D d_model, V vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run, shapes_only
from assay.targets import IGNORED


def _forward(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"], dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The sum of nats in float32, and its gradients at hidden and weight; operands of products are in `dtype`."""
    hidden, weight, targets = hidden.contiguous(), weight.contiguous(), targets.contiguous()
    (N, D), V = hidden.shape, len(weight)
    found = weight.new_empty(()), torch.empty_like(hidden), torch.empty_like(weight)
    outside = targets.new_zeros(())
    name = f"cross_entropy_{NAMES[hidden.dtype]}_{NAMES[dtype]}"
    tensors = (hidden, weight, targets, *found, outside)
    run("cross_entropy", name, tensors, (N, D, V, IGNORED, torch.get_num_threads()))
    if not shapes_only(outside) and outside.item():
        raise IndexError(f"{outside.item()} targets are outside of the vocabulary of {V}")
    return found[:1], found[1:]


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: torch.dtype) -> tuple[Tensor, ...]:
    (slope,), (hidden_gradient, weight_gradient) = gradients, saved
    return hidden_gradient * slope.to(hidden_gradient.dtype), weight_gradient * slope


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """More tokens than a tile and a vocabulary of two panels, both odd; some tokens without a target."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(shape, generator=generator) for shape in ((71, 13), (301, 13)))
    targets = torch.randint(301, (71,), generator=generator).index_fill(0, torch.tensor([0, 40]), IGNORED)
    return (hidden.to(dtype), weight, targets), (dtype,)


def _takes(hidden: Tensor, weight: Tensor, _: Tensor, dtype: torch.dtype) -> bool:
    """Not bfloat16 states with products in float32, and no float64."""
    narrow = dtype == torch.bfloat16 and hidden.dtype in (torch.float32, torch.bfloat16)
    return weight.dtype == torch.float32 and (narrow or hidden.dtype == dtype == torch.float32)


CROSS_ENTROPY_NATIVE = Native("cross_entropy", (), _forward, _gradient, _example, _takes)
