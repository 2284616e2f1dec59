"""SiLU, SiLU times another input, and the squared ReLU: torch's own, or one pass in C++ where training has that ready.

SiLU is x / (1 + exp(-x)) (Elfwing et al. 2018, arXiv:1702.03118), the squared ReLU max(x, 0)^2 (So et al. 2021,
arXiv:2109.08668). In eager on a CPU torch takes several passes over memory for each, the gradient of a square alone
four; compilers fuse them.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.activations_native import GATED_SILU_NATIVE, SILU_NATIVE, SQUARED_RELU_NATIVE
from assay.ops.opaque import Differentiable


def silu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """x / (1 + exp(-x)), in the type of x."""
    return _silu(x)[0] if _silu.runs_native(x) else F.silu(x)


def gated_silu(gate: Float[Tensor, "*B"], x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """silu(gate) x, in C++ with one rounding instead of two."""
    return _gated_silu(gate, x)[0] if _gated_silu.runs_native(gate, x) else F.silu(gate) * x


def squared_relu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """max(x, 0)^2, in the type of x."""
    return _squared_relu(x)[0] if _squared_relu.runs_native(x) else F.relu(x).square()


def _silu_forward(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (F.silu(x),), ()


def _silu_gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (torch.ops.aten.silu_backward(*gradients, *saved),)


def _gated_silu_forward(gate: Tensor, x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (F.silu(gate) * x,), ()


def _gated_silu_gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dy,), (gate, x) = gradients, saved
    return torch.ops.aten.silu_backward(dy * x, gate), dy * F.silu(gate)


def _squared_relu_forward(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (F.relu(x).square(),), ()


def _squared_relu_gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (dy,), (x,) = gradients, saved
    return (2 * F.relu(x) * dy,)


_silu = Differentiable("silu", _silu_forward, _silu_gradient, outputs=1, keeps=(0,), native=SILU_NATIVE)
_gated_silu = Differentiable(
    "gated_silu", _gated_silu_forward, _gated_silu_gradient, outputs=1, keeps=(0, 1), native=GATED_SILU_NATIVE
)
_squared_relu = Differentiable(
    "squared_relu", _squared_relu_forward, _squared_relu_gradient, outputs=1, keeps=(0,), native=SQUARED_RELU_NATIVE
)
