"""Calls of the C++ form of the RWKV-7 recurrence (native/wkv7.cpp), and of its gradient.

Shapes: B batch, T tokens, H heads, K key width, V value width.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.native.kernels import NAMES, Native, run

CHUNK = 16
"""The number of tokens between two states that are kept for the gradient."""
_LANES = 16


def _forward(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"],
    _: int,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Outputs and final state; then the states before every CHUNK tokens, in tiles, and what each token removes."""
    inputs = tuple(_in_rows(x) for x in (r, log_decay, k, v, a, b))
    (B, T, H, K), V = r.shape, v.shape[3]
    y, final, removed = v.new_empty(B, T, H, V), r.new_empty(B, H, K, V), r.new_empty(B, T, H, V)
    keys, values = (-(-width // _LANES) * _LANES for width in (K, V))
    states = r.new_empty(B, H, -(-T // CHUNK), keys * values)
    run("wkv7", f"wkv7_{NAMES[v.dtype]}", (*inputs, state.contiguous(), y, final, states, removed), _sizes(inputs))
    return (y, final), (states, removed)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: int) -> tuple[Tensor, ...]:
    dy, dfinal = (x.contiguous() for x in gradients)
    *given, states, removed = saved
    inputs = tuple(_in_rows(x) for x in given)
    found = (*(torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs), torch.empty_like(dfinal))
    run("wkv7", f"wkv7_gradient_{NAMES[dy.dtype]}", (dy, dfinal, *inputs, states, removed, *found), _sizes(inputs))
    return found


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the entries of a head do not stand side by side."""
    return x if x.stride(3) == 1 else x.contiguous()


def _sizes(inputs: tuple[Tensor, ...]) -> list[int]:
    r, _, _, v, _, _ = inputs
    return [*r.shape, v.shape[3], torch.get_num_threads(), *(stride for x in inputs for stride in x.stride()[:3])]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Odd widths, two chunks and a part of one, decays mild and hard."""
    generator = torch.Generator().manual_seed(0)
    B, T, H, K, V = 2, 37, 2, 19, 7
    r, k, b, removal, log_decay = (torch.randn(B, T, H, K, generator=generator) for _ in range(5))
    v, state = torch.randn(B, T, H, V, generator=generator).to(dtype), torch.randn(B, H, K, V, generator=generator)
    a = -F.normalize(removal, dim=-1)
    return (r, -F.softplus(3 * log_decay), k, v, a, -a * b.sigmoid(), state), (CHUNK,)


def _takes(*operands: object) -> bool:
    """All but the values come in one type, float32 for models in bfloat16 too."""
    r, _, _, v, *_ = operands
    return isinstance(r, Tensor) and isinstance(v, Tensor) and r.dtype == torch.float32 and v.dtype in NAMES


WKV7_NATIVE = Native("wkv7", ("wkv7",), _forward, _gradient, _example, _takes, keeps=(0, 1, 2, 3, 4, 5))
