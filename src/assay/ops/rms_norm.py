"""Root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467), its gradient by hand in eager on a CPU.

torch composes it there of some twenty operations forward and backward; training has it in C++ where it can. Compilers
fuse those operations, and CUDA has a kernel.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.opaque import Differentiable
from assay.ops.rms_norm_native import RMS_NORM_NATIVE


def rms_norm(x: Float[Tensor, "*B D"], weight: Float[Tensor, " D"], eps: float) -> Float[Tensor, "*B D"]:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, within in float32 or wider; the result has x's dtype."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps).to(x.dtype)
    (y,) = _rms_norm(x, weight, option=(eps,))
    return y


def _forward(x: Tensor, weight: Tensor, eps: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs, and 1 / sqrt(mean(x^2) + eps) [*B, 1]."""
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    rate = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return ((x * rate).mul_(weight).to(x.dtype),), (rate,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: float) -> tuple[Tensor, ...]:
    """With n = x rate: rate (w dy - n mean(w dy n)) at x, and dy n summed over all rows at w."""
    (dy,), (x, weight, rate) = gradients, saved
    normed = x * rate
    slopes = dy * normed
    mean = (slopes @ weight.to(slopes.dtype)).div_(x.shape[-1])
    dx = torch.addcmul(dy * weight.to(slopes.dtype), normed, mean[..., None], value=-1).mul_(rate)
    return dx.to(x.dtype), slopes.reshape(-1, x.shape[-1]).sum(0).to(weight.dtype)


_rms_norm = Differentiable(
    "rms_norm", _forward, _gradient, outputs=1, keeps=(0, 1), option="float", native=RMS_NORM_NATIVE
)
