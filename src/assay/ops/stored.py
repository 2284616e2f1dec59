"""A tensor that a compiler is to keep in memory, where it would compute it anew for every use.

A compiler fuses the making of a vector into the product that reads it, and so makes it once for each row of the matrix.
"""

import functools

import torch
from torch import Tensor


@torch.library.custom_op("assay::stored", mutates_args=())
def _stored(x: Tensor) -> Tensor:
    return x.clone()


@_stored.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def stored(x: Tensor) -> Tensor:
    """x itself; in a graph that is being compiled, read from memory by all that follows. No gradient passes it."""
    if not torch.compiler.is_compiling():
        return x
    kept: Tensor = torch.ops.assay.stored(x)
    return kept


@functools.cache
def teach_compiler() -> None:
    """Tell torch's compiler that it has only to keep the tensor; without it each use is a call of a function."""
    from torch._inductor.lowering import register_lowering  # takes a second to import

    @register_lowering(torch.ops.assay.stored.default, type_promotion_kind=None)
    def keep(x):  # type: ignore[no-untyped-def]
        x.realize()
        return x
