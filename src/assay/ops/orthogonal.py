"""The orthogonal factors of matrices by the iteration of Newton and Schulz, for Muon; in C++ where it can
(native/orthogonal.cpp).

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

Shapes: N matrices of one shape, R rows, C columns.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.build import NotBuiltError
from assay.ops.native.kernels import KERNELS, TOLERANCE, load, run
from assay.ops.native.processor import types_here

SOURCE = "orthogonal"
MOST_ROWS, MOST_ENTRIES = 256, 1 << 18
"""Of a matrix in C++, which is to stay in the nearest caches; torch's products are as good for larger ones."""


class NewtonSchulz(NamedTuple):
    """`steps` times X <- a X + (b G + c G G) X with G = X X^T. X begins as the matrix over its norm, or over
    `least_norm` where that is larger.
    """

    a: float
    b: float
    c: float
    least_norm: float
    steps: int


def orthogonal(
    matrices: Float[Tensor, "N R C"], iteration: NewtonSchulz, native: bool = False
) -> Float[Tensor, "N R C"]:
    """What the iteration makes of each matrix over its norm, in bfloat16; `native` where it may be in C++."""
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    found = (_in_cpp if native and _takes(wide) else _in_python)(wide, iteration)
    return found.mT if tall else found


def prepare_orthogonal() -> str | None:
    """Build the C++ form and compare it with the Python form; the reason where it is not used."""
    if SOURCE not in KERNELS.refused and (SOURCE, torch.bfloat16) not in KERNELS.ready:
        try:
            load(SOURCE)
            _check()
            KERNELS.ready.add((SOURCE, torch.bfloat16))
        except NotBuiltError as error:
            KERNELS.refused[SOURCE] = str(error)
    return KERNELS.refused.get(SOURCE)


def in_cpp_here() -> bool:
    """Whether this processor could run the C++ form."""
    return torch.bfloat16 in types_here()


def _takes(wide: Float[Tensor, "N R C"]) -> bool:
    rows, columns = wide.shape[1:]
    ready = (SOURCE, torch.bfloat16) in KERNELS.ready and wide.device.type == "cpu" and wide.dtype == torch.float32
    return ready and wide.numel() > 0 and rows <= MOST_ROWS and rows * columns <= MOST_ENTRIES


def _in_python(wide: Float[Tensor, "N R C"], by: NewtonSchulz) -> Float[Tensor, "N R C"]:
    x = wide.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(by.least_norm)
    for _ in range(by.steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=by.b, alpha=by.c), x, beta=by.a)
    return x.to(wide.dtype)


def _in_cpp(wide: Float[Tensor, "N R C"], by: NewtonSchulz) -> Float[Tensor, "N R C"]:
    wide = wide.contiguous()
    found = torch.empty_like(wide)
    option = wide.new_tensor([by.a, by.b, by.c, by.least_norm])
    run(SOURCE, SOURCE, (wide, option, found), (*wide.shape, by.steps, torch.get_num_threads()))
    return found


def _check() -> None:
    """Two matrices of odd sides, by few steps: the more there are, the more two roundings differ."""
    wide = torch.randn(2, 19, 37, generator=torch.Generator().manual_seed(0))
    by = NewtonSchulz(3.4445, -4.775, 2.0315, 1e-7, 2)
    found, expected = _in_cpp(wide, by), _in_python(wide, by)
    apart = float((found - expected).norm() / expected.norm())
    if not apart <= TOLERANCE[torch.bfloat16]:
        raise NotBuiltError(f"its check failed: a matrix is {apart:.1e} off")
