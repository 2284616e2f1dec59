"""Calls of the C++ forms of the activations (native/activations.cpp), and of their gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run

SOURCE = "activations"


def _native(name: str, inputs: int) -> Native:
    """Of a function of `inputs` tensors of one shape and type, which stand as they are for the gradient."""

    def forward(*operands: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        given = [x.contiguous() for x in operands]
        y = torch.empty_like(given[0])
        _run(name, [*given, y])
        return (y,), ()

    def gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = [x.contiguous() for x in saved]
        found = [torch.empty_like(x) for x in given]
        _run(f"{name}_gradient", [gradients[0].to(given[0].dtype).contiguous(), *given, *found])
        return tuple(found)

    return Native(SOURCE, (), forward, gradient, _example(inputs), _takes, keeps=tuple(range(inputs)))


def _run(function: str, tensors: list[Tensor]) -> None:
    sizes = (tensors[0].numel(), torch.get_num_threads())
    run(SOURCE, f"{function}_{NAMES[tensors[0].dtype]}", tensors, sizes)


def _example(inputs: int) -> Callable[[torch.dtype], tuple[tuple[Tensor, ...], tuple[object, ...]]]:
    """More entries than two threads take at once, an odd number of them."""

    def example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        generator = torch.Generator().manual_seed(0)
        return tuple(torch.randn(3, 37, 299, generator=generator).to(dtype) for _ in range(inputs)), ()

    return example


def _takes(*operands: Tensor) -> bool:
    """Others are for torch to broadcast, to promote or to refuse."""
    first = operands[0]
    return first.numel() > 0 and all(x.shape == first.shape and x.dtype == first.dtype for x in operands)


SILU_NATIVE = _native("silu", 1)
GATED_SILU_NATIVE = _native("gated_silu", 2)
SQUARED_RELU_NATIVE = _native("squared_relu", 1)
