"""The delta rule with a decay a head, the recurrence of DeltaNet and Gated DeltaNet: its two forms.

    S_t = a_t S_{t-1} + beta_t k_t (v_t - E_t^T k_t)^T,    y_t = S_t^T q_t,    a_t = exp(log_decay_t)

(Yang et al. 2024, arXiv 2406.06484, section 2, and arXiv 2412.06464, eq. 10.) The error is taken from what the state
holds after its decay, E_t = a_t S_{t-1}, as published, or before it, E_t = S_{t-1}. The loop is the definition; the
chunked form is in delta_rule_chunks.

Shapes: B batch, T tokens of this call, H heads, K key width, V value width.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.delta_rule_chunks import chunked_delta_rule, inverse_flops
from assay.ops.execution import Execution, equal_chunks
from assay.ops.forms import Implementation, Op, register

ErrorTaken = Literal["after", "before"]
"""Whether a write corrects what the state holds after its decay or before it."""


def delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | None,
    state: Float[Tensor, "B H K V"] | None,
    execution: Execution,
    error: ErrorTaken = "after",
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """(y in v's type, state after the last token); nothing is scaled or normalised, y is read after the write.

    `log_decay` is finite and at most 0, None means 0 throughout; a state of None is zero. The state, the decays and
    the loop's arithmetic are in float32, under autocast too, or in float64 where v is; the chunked form multiplies
    matrices in v's type, and there the state passes from chunk to chunk in float32. A single token, as in decoding,
    always runs as one step of the loop and is recorded as such.
    """
    inputs = (q, k, v, beta, log_decay, state, error)
    result: tuple[Tensor, Tensor] = DELTA_RULE.run(execution, v.shape[1], *inputs)
    return result


def longest_chunk(key_width: int, execution: Execution) -> int:
    """max(32, K / 2) tokens, if the execution allows: longer chunks spend more on pairs than they save on states."""
    return min(execution.chunk_length, max(32, key_width // 2))


def delta_rule_flops(
    tokens: int, n_heads: int, key_width: int, value_width: int, execution: Execution
) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence: those in matrix products, and by name those elementwise or in the solve.

    A head of the loop reads twice a token, 4 K V, and decays and writes the state elementwise, 4 K V. Chunked, with n
    chunks of C tokens: 2 C^2 (3 K + 2 V) + 6 C K V a chunk and the inverse of its triangle, of which parts are products
    (`inverse_flops`), and products with decays and beta, 2 C^2 + 4 C K + K V; without decays it spares most of the
    last.
    """
    K, V = key_width, value_width
    if DELTA_RULE.form(execution, tokens) == "loop":
        return 4 * tokens * n_heads * K * V, {"state": 4 * tokens * n_heads * K * V}
    n, C = equal_chunks(tokens, longest_chunk(K, execution))
    chunks, (products, solve) = n * n_heads, inverse_flops(C)
    uncounted = {"triangular solve": chunks * solve, "decays": chunks * (2 * C**2 + 4 * C * K + K * V)}
    return chunks * (2 * C**2 * (3 * K + 2 * V) + 6 * C * K * V + products), uncounted


def delta_rule_loop(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | None,
    state: Float[Tensor, "B H K V"] | None,
    error: ErrorTaken = "after",
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The definition, one token at a time. Arguments as for `delta_rule`."""
    out_dtype = v.dtype
    with torch.autocast(v.device.type, enabled=False):
        beta, log_decay, state = _recurrent(k, v, beta, log_decay, state)
        q, k, v = (x.to(state.dtype) for x in (q, k, v))
        rows = (x.unbind(1) for x in (q[..., None, :], k[..., None, :], v[..., None, :]))
        scalars = (x[..., None, None].unbind(1) for x in (beta, log_decay.exp()))
        outputs = []
        for q_t, k_t, v_t, beta_t, decay_t in zip(*rows, *scalars, strict=True):
            decayed = decay_t * state
            held = k_t @ (decayed if error == "after" else state)
            state = decayed + k_t.mT * (beta_t * (v_t - held))
            outputs.append(q_t @ state)
        return torch.cat(outputs, 2).transpose(1, 2).to(out_dtype), state


def delta_rule_chunked(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    beta: Float[Tensor, "B T H"],
    log_decay: Float[Tensor, "B T H"] | None,
    state: Float[Tensor, "B H K V"] | None,
    chunk_length: int,
    error: ErrorTaken = "after",
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same numbers by matrix products over chunks of at most `chunk_length` tokens; first derivatives only."""
    decays = log_decay is not None
    beta, log_decay, state = _recurrent(k, v, beta, log_decay, state)
    q, k = q.to(v.dtype), k.to(v.dtype)
    return chunked_delta_rule(
        q, k, v, beta, log_decay if decays else None, state, chunk_length, before=error == "before"
    )


def _recurrent(
    k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """beta, log_decay and the state, all present, in float32 or in float64 where v is."""
    dtype = torch.promote_types(v.dtype, torch.float32)
    if log_decay is None:
        log_decay = torch.zeros_like(beta)
    if state is None:
        B, _, H, K = k.shape
        state = v.new_zeros(B, H, K, v.shape[-1], dtype=dtype)
    return beta.to(dtype), log_decay.to(dtype), state.to(dtype)


DELTA_RULE = register(
    Op(
        "delta_rule",
        {
            "loop": Implementation(lambda _, *inputs: delta_rule_loop(*inputs)),
            "chunked": Implementation(
                lambda execution, q, k, v, beta, log_decay, state, error: delta_rule_chunked(
                    q, k, v, beta, log_decay, state, longest_chunk(k.shape[-1], execution), error
                )
            ),
        },
        one_token="loop",
    )
)
