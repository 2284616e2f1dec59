"""Calls of the C++ form of the chunked delta rule (native/delta_rule.cpp), and of its gradient.

Shapes: B batch, T tokens, H heads, K key width, V value width. `how` is as in delta_rule_chunks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.native.kernels import NAMES, Native, run

_LONGEST = 32
"""Tokens of the longest chunk that is done: for that many rows matrices are laid out."""
_WIDTHS = 16
"""What kept widths are filled up to a multiple of."""


def _forward(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"],
    state: Float[Tensor, "B H K V"],
    how: list[int],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs and the last state; the states before all chunks and the errors, filled up with zeros."""
    q, k, v = (_in_rows(x) for x in (q, k, v))
    (B, T, H, K), V = q.shape, v.shape[3]
    y, last = v.new_empty(v.shape), state.new_empty(state.shape)
    chunks, wide, width = -(-T // _length(how)), _filled(K), _filled(V)
    states, errors = v.new_empty(B, H, chunks, wide, width), v.new_empty(B, H, chunks, _LONGEST, width)
    tensors = (q, k, v, beta, log_decay, state.contiguous(), y, last, states, errors)
    run("delta_rule", f"delta_rule_{NAMES[q.dtype]}", tensors, _sizes(q, k, v, beta, log_decay, how))
    return (y, last), (states, errors)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], how: list[int]) -> tuple[Tensor, ...]:
    (dy, d_last), (q, k, beta, log_decay, states, errors) = gradients, saved
    q, k, dy = (_in_rows(x) for x in (q, k, dy))
    dq, dk, dv, d_beta, d_state = (x.new_empty(x.shape) for x in (q, k, dy, beta, d_last))
    d_log_decay = torch.zeros_like(beta, memory_format=torch.contiguous_format)
    found = (dq, dk, dv, d_beta, d_log_decay, d_state)
    tensors = (dy, d_last.contiguous(), q, k, beta, log_decay, states, errors, *found)
    run("delta_rule", f"delta_rule_gradient_{NAMES[q.dtype]}", tensors, _sizes(q, k, dy, beta, log_decay, how))
    return found


def _in_rows(x: Tensor) -> Tensor:
    """x, copied where the entries of a head do not stand side by side."""
    return x if x.stride(3) == 1 else x.contiguous()


def _length(how: list[int]) -> int:
    return min(how[0], _LONGEST)


def _filled(width: int) -> int:
    return -(-width // _WIDTHS) * _WIDTHS


def _sizes(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, how: list[int]) -> list[int]:
    """`v` may stand for its gradient or that of y, which are of its shape."""
    strides = [stride for x in (q, k, v, beta, log_decay) for stride in x.stride()[:3]]
    (B, T, H, K), V = q.shape, v.shape[3]
    return [B, T, H, K, V, _length(how), how[1], how[2], torch.get_num_threads(), *strides]


def _example(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
    """Odd widths, several chunks of which the last is shorter, errors before decays of which one forgets nearly all."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 75, 2, width, generator=generator) for width in (21, 21, 19))
    beta, log_decay = torch.rand(2, 75, 2, generator=generator), -torch.rand(2, 75, 2, generator=generator)
    log_decay[:, 40] = -60.0
    state = torch.randn(2, 2, 21, 19, generator=generator)
    k = torch.nn.functional.normalize(k, dim=3)
    return (q.to(dtype), k.to(dtype), v.to(dtype), beta, log_decay, state), ([32, 1, 0],)


def _takes(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor, *_: object) -> bool:
    return q.dtype == k.dtype == v.dtype and all(x.dtype == torch.float32 for x in (beta, log_decay, state))


DELTA_RULE_NATIVE = Native("delta_rule", ("delta_rule",), _forward, _gradient, _example, _takes, keeps=(0, 1, 3, 4))
