"""Calls of the C++ form of the cross-entropy of a linear head (native/cross_entropy.cpp).

Shapes: N tokens, D d_model, V vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run
from assay.targets import IGNORED


def _forward(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"], dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The sum of nats in float32, and its gradients at hidden and weight; operands of products are in `dtype`."""
    hidden, weight, targets = hidden.contiguous(), weight.contiguous(), targets.contiguous()
    (N, D), V = hidden.shape, len(weight)
    found = weight.new_empty(()), torch.empty_like(hidden), torch.empty_like(weight)
    name = f"cross_entropy_{NAMES[hidden.dtype]}_{NAMES[dtype]}"
    run("cross_entropy", name, (hidden, weight, targets, *found), (N, D, V, IGNORED, torch.get_num_threads()))
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


def _takes(hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> bool:
    types = (hidden.dtype, dtype)
    floats = (torch.float32, torch.bfloat16)
    return weight.dtype == torch.float32 and types[0] in floats and types[1] in floats and types != floats[::-1]


CROSS_ENTROPY_NATIVE = Native("cross_entropy", (), _forward, _gradient, _example, _takes)
