"""State space duality, the recurrence of Mamba-2: the loop that defines it and the chunked form.

    S_t = exp(log_decay_t) S_{t-1} + x_t b_t^T,    y_t = S_t c_t        (Dao and Gu 2024, arXiv:2405.21060, eq. 1 and 6)

Shapes: B batch, T tokens, H heads, P head width, N state width, G groups; b and c of group g serve the H/G heads
from g H/G on. Inside: n = B C chunks of L tokens, R = H/G heads a group.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import Execution, equal_chunks
from assay.ops.forms import Implementation, Op, register
from assay.ops.ssd_chunks import chunked, scaled


class Factors(NamedTuple):
    """Of what stands around the recurrence: x is multiplied by a `scale` of each token and head [B, T, H], and y gets
    each head's `skip` [H] times x as it was before.
    """

    scale: Tensor
    skip: Tensor


def ssd(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
    execution: Execution,
    factors: Factors | None = None,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """(y, state after the last token) in the form of `execution`; a single token is one turn of the loop.

    `log_decay` is finite and <= 0; a state of None is zero. y has the dtype of x, with factors the wider one; decays
    and the state are in float32, under autocast too, or in float64 where x or log_decay is; so is all else, but for the
    chunked form's products where b and c are in bfloat16 (see `ssd_chunked`).
    """
    result: tuple[Tensor, Tensor] = SSD.run(execution, x.shape[1], x, log_decay, b, c, state, factors)
    return result


def ssd_flops(
    tokens: int, n_heads: int, head_dim: int, d_state: int, n_groups: int, execution: Execution
) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence: those in matrix products, and by name those that are elementwise.

    A head of the loop reads with 2 P N a token and takes 3 P N elementwise. Chunked, all heads of a chunk of L tokens
    take G 2 N L^2 for scores, H 2 P L^2 for their values and H 4 P N L to read and write the state, and elementwise
    H (4 P L + 3 P N) for the decays of values and states. A head that decays too hard for it in a chunk (ssd_chunks)
    takes 2 L^2 (N + P) + 2 L P N more there, which is not in it.
    """
    H, P, N = n_heads, head_dim, d_state
    if SSD.form(execution, tokens) == "loop":
        return 2 * tokens * H * P * N, {"recurrence": 3 * tokens * H * P * N}
    n_chunks, L = equal_chunks(tokens, execution.chunk_length)
    products = 2 * n_groups * N * L**2 + H * (2 * P * L**2 + 4 * P * N * L)
    return n_chunks * products, {"decays": n_chunks * H * (4 * P * L + 3 * P * N)}


def ssd_loop(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """The definition, one token at a time. Arguments as for `ssd`."""
    y_dtype, groups = x.dtype, b.shape[2]
    x, log_decay, b, c, state = _promote(x, log_decay, b, c, state)
    decay = log_decay.exp().unflatten(2, (groups, -1))[..., None, None]
    x, state = x.unflatten(2, (groups, -1)), state.unflatten(1, (groups, -1))
    outputs = []
    with torch.autocast(x.device.type, enabled=False):
        for t in range(x.shape[1]):
            state = decay[:, t] * state + x[:, t, ..., None] * b[:, t, :, None, None, :]
            outputs.append((state @ c[:, t, :, None, :, None]).squeeze(-1))
    return torch.stack(outputs, 1).flatten(2, 3).to(y_dtype), state.flatten(1, 2)


def ssd_chunked(
    x: Float[Tensor, "B T H P"],
    log_decay: Float[Tensor, "B T H"],
    b: Float[Tensor, "B T G N"],
    c: Float[Tensor, "B T G N"],
    state: Float[Tensor, "B H P N"] | None,
    chunk_length: int,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B H P N"]]:
    """Attention-like products within chunks of equal length, at most `chunk_length`; the state passes between them.

    Products are in the type of b and c, so in bfloat16 where both are; decays, their sums and the state are in float32
    or wider. Exact down to a log decay of about -1e9 a token (see ssd_chunks), and at -inf no number, where the loop
    has one. Arguments as for `ssd`; first derivatives only.
    """
    y_dtype, product = x.dtype, _product(x, log_decay, b, c)
    x, log_decay, _, _, state = _promote(x, log_decay, b, c, state)
    y, state = chunked(x, log_decay, b.to(product), c.to(product), state, option=(chunk_length,))
    return y.to(y_dtype), state


def _loop(
    x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor | None, factors: Factors | None
) -> tuple[Tensor, Tensor]:
    if factors is None:
        y, state = ssd_loop(x, log_decay, b, c, state)
        return y, state
    wide = x.to(_wide(x, log_decay))
    y, state = ssd_loop(wide * factors.scale.to(wide.dtype)[..., None], log_decay, b, c, state)
    return torch.addcmul(y, wide, factors.skip.to(wide.dtype)[:, None]), state


def _chunked(
    longest: int, x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor | None, factors: Factors | None
) -> tuple[Tensor, Tensor]:
    if factors is None:
        y, state = ssd_chunked(x, log_decay, b, c, state, longest)
        return y, state
    dtype, product = _wide(x, log_decay), _product(x, log_decay, b, c)
    *_, state = _promote(x, log_decay, b, c, state)
    scale, skip, log_decay = (tensor.to(dtype) for tensor in (*factors, log_decay))
    y, state = scaled(x, scale, skip, log_decay, b.to(product), c.to(product), state, option=(longest,))
    return y, state


def _product(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor) -> torch.dtype:
    """The type of the chunked form's products."""
    if torch.float64 in (x.dtype, log_decay.dtype):
        return torch.float64
    return torch.promote_types(b.dtype, c.dtype)


def _wide(x: Tensor, log_decay: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(x.dtype, log_decay.dtype), torch.float32)


def _promote(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor | None) -> list[Tensor]:
    """All five in float32 or wider; the state zero where there is none."""
    dtype = _wide(x, log_decay)
    if state is None:
        state = x.new_zeros(x.shape[0], *x.shape[2:], b.shape[-1], dtype=dtype)
    return [tensor.to(dtype) for tensor in (x, log_decay, b, c, state)]


SSD = register(
    Op(
        "ssd",
        {
            "loop": Implementation(lambda _, *inputs: _loop(*inputs)),
            "chunked": Implementation(lambda execution, *inputs: _chunked(execution.chunk_length, *inputs)),
        },
        one_token="loop",
    )
)
