"""Calls of the C++ form of the token shift's mixtures (native/token_shift.cpp), and of their gradient.

Shapes as in token_shift. The inputs are in float32, shares and mixtures in the type of the products to come.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run

MOST = 6
"""The most shares that it has."""


def _forward(
    shares: Float[Tensor, "S D"], x: Float[Tensor, "B T D"], last: Float[Tensor, "B D"]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shares, x, last = shares.contiguous(), x.contiguous(), last.contiguous()
    y = shares.new_empty(len(shares), *x.shape)
    run("token_shift", f"token_shift_{NAMES[shares.dtype]}", (shares, x, last, y), _sizes(shares, x))
    return (y,), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dy,), (shares, x, last) = gradients, (part.contiguous() for part in saved)
    d_shares, dx, d_last = torch.empty_like(shares), torch.empty_like(x), torch.empty_like(last)
    tensors = (dy.contiguous(), shares, x, last, d_shares, dx, d_last)
    run("token_shift", f"token_shift_gradient_{NAMES[shares.dtype]}", tensors, _sizes(shares, x))
    return d_shares, dx, d_last


def _sizes(shares: Tensor, x: Tensor) -> list[int]:
    return [len(shares), *x.shape, torch.get_num_threads()]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Two segments behind an input, an odd number of channels."""
    generator = torch.Generator().manual_seed(0)
    shares, x, last = (torch.randn(shape, generator=generator) for shape in ((3, 37), (2, 83, 37), (2, 37)))
    return (shares.to(dtype), x, last), ()


def _takes(shares: Tensor, x: Tensor, last: Tensor) -> bool:
    if x.shape[2:] != shares.shape[1:] or last.shape != (x.shape[0], x.shape[2]):
        return False  # torch refuses or broadcasts them
    return x.numel() > 0 and x.dtype == last.dtype == torch.float32 and 1 <= len(shares) <= MOST


TOKEN_SHIFT_NATIVE = Native("token_shift", (), _forward, _gradient, _example, _takes, keeps=(0, 1, 2))
