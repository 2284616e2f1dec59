"""The RWKV-7 recurrence: the loop that defines it, and a chunked form that is exact at every decay.

    S_t = diag(exp(log_decay_t)) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T,    y_t = S_t^T r_t

(Peng et al. 2025, "RWKV-7 Goose", arXiv 2503.14456, section 4, whose state is the transpose of this one; there a is
minus the normalised removal key and b that key times the in-context learning rate.)

Shapes: B batch, T tokens of this call, H heads, K key width, V value width. Inside the chunked form, C is the
chunk length, n = ceil(T / C) and M = n B H counts the chunks of all sequences and heads.

The chunked form calls u_t = S_{t-1}^T a_t what a token removes. Inside a chunk that starts with state S,

    [u ; y] = scores [u ; v] + before S,    with 2C rows: those of a, then those of r

where the scores of a look at earlier tokens only. So u comes from a unit triangular system (the WY form of Yang et al.
2024, arXiv 2406.06484, with a decay per channel), solved for all chunks at once up to what depends on S.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import Execution
from assay.ops.forms import Implementation, Op, register
from assay.ops.opaque import Differentiable
from assay.ops.wkv7_chunks import Inside, inside_chunks, inside_gradients
from assay.ops.wkv7_native import WKV7_NATIVE
from assay.ops.wkv_chunks import Decays, by_chunk, from_chunks, in_one_type, refuse_length


def wkv7(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs in v's type and the state after the last token, in float32 (float64 for float64 values).

    `log_decay` is at most 0 and never clamped; `state` None means zeros. A single token, as in decoding, always
    runs as one step of the loop and is recorded as such. The chunks are those of `chunk_length_of`.
    """
    result: tuple[Tensor, Tensor] = WKV7.run(execution, r.shape[1], r, log_decay, k, v, a, b, state)
    return result


def chunk_length_of(execution: Execution, tokens: int, key_width: int) -> int:
    """The largest power of two within the execution's chunk length and max(16, K / 2) up to 32, no more than `tokens`
    need.

    Longer chunks spend more on scores and on the triangular system than they save on states.
    """
    longest = min(execution.chunk_length, max(16, key_width // 2), 32)
    return min(1 << longest.bit_length() - 1, 1 << (tokens - 1).bit_length())


def wkv7_flops(
    tokens: int, n_heads: int, key_width: int, value_width: int, execution: Execution
) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence: those in matrix products, and by name those elementwise or in the inverse.

    A head of the loop takes 9 K V a token, all elementwise. Chunked, where no chunk decays so hard that it has to be
    halved, a chunk of C tokens takes the products below, C^3 / 3 for the triangular inverse, and elementwise
    10 C K + 2 K V for decaying rows, keys and state.
    """
    K, V = key_width, value_width
    if WKV7.form(execution, tokens) == "loop":
        return 0, {"recurrence": 9 * tokens * n_heads * K * V}
    C = chunk_length_of(execution, tokens, K)
    chunks = -(-tokens // C) * n_heads
    scores = 4 * C * C * K
    solved = C * C * V + C * C * (V + K)
    passed = 3 * C * K * V
    outputs = C * (2 * C + K) * V
    uncounted = {"triangular_inverse": chunks * C**3 // 3, "decays": chunks * (10 * C * K + 2 * K * V)}
    return 2 * chunks * (scores + solved + passed + outputs), uncounted


def wkv7_loop(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The definition, one token at a time."""
    with torch.autocast(r.device.type, enabled=False):
        y_dtype = v.dtype
        r, log_decay, k, v, a, b, state = in_one_type((r, log_decay, k, v, a, b), v, state)
        r, decay, k, a, b = (x.unsqueeze(-1) for x in (r, log_decay.exp(), k, a, b))
        v = v.unsqueeze(-2)
        outputs = []
        for t in range(r.shape[1]):
            removed = (a[:, t] * state).sum(-2, keepdim=True)
            state = decay[:, t] * state + b[:, t] * removed + k[:, t] * v[:, t]
            outputs.append((r[:, t] * state).sum(-2))
        return torch.stack(outputs, 1).to(y_dtype), state


def wkv7_chunked(
    r: Float[Tensor, "B T H K"],
    log_decay: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    a: Float[Tensor, "B T H K"],
    b: Float[Tensor, "B T H K"],
    state: Float[Tensor, "B H K V"] | None,
    chunk_length: int,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same numbers by matrix products over chunks of `chunk_length` tokens, a power of two; T is any length."""
    refuse_length(chunk_length)
    r, log_decay, k, a, b, state = in_one_type((r, log_decay, k, a, b), v, state)
    y, state = _chunked(r, log_decay, k, v, a, b, state, option=(chunk_length,))
    return y, state


def _forward(
    r: Tensor, log_decay: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor, C: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """`left` is [scores | before] and `right` [u ; v ; S], so that the rows of r give y = left right; `solve` is the
    inverse of the unit triangular system. All but v and y come and go in the type that is computed in.
    """
    B, T = r.shape[:2]
    rows, keys, logs = by_chunk((a, r), C), by_chunk((b, k), C), by_chunk((log_decay,), C)
    inside, left, decays = inside_chunks(rows, keys, logs)
    values = by_chunk((v.to(r.dtype),), C)
    ones = torch.eye(C, dtype=left.dtype, device=left.device).expand(len(left), C, C)
    solve = torch.linalg.solve_triangular(-left[:, :C, :C], ones, upper=False, unitriangular=True)
    free = solve @ torch.cat((left[:, :C, C : 2 * C] @ values, inside.before[:, :C]), 2)
    added = inside.after[:, C:].mT @ values
    right, final = _pass_states(free, values, inside.after[:, :C], added, decays.total.unsqueeze(2), state)
    outputs = from_chunks(left[:, C:] @ right, B, T).to(v.dtype), final
    return outputs, (rows, keys, logs, left, right, solve, free, inside.after, *decays)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], C: int) -> tuple[Tensor, ...]:
    dy, dfinal = gradients
    rows, keys, logs, left, right, solve, free, after, since, hard = saved
    decays = Decays(since, hard)
    (B, T, _, V), dtype = dy.shape, dy.dtype
    dy = by_chunk((dy.to(left.dtype),), C)
    dright = left[:, C:].mT @ dy
    total = decays.total.unsqueeze(2)
    du, dend, dstate = _pass_gradients(dright, free[:, :, V:], after[:, :C], total, dfinal)
    dsolved = solve.mT @ du
    dv = torch.baddbmm(dright[:, C : 2 * C], left[:, :C, C : 2 * C].mT, dsolved)
    dv = torch.baddbmm(dv, after[:, C:], dend)
    dleft = torch.cat((dsolved, dy), 1) @ right.mT
    d = Inside(dleft[:, :, : 2 * C], dleft[:, :, 2 * C :], right[:, : 2 * C] @ dend.mT)
    inside = Inside(left[:, :, : 2 * C], left[:, :, 2 * C :], after)
    drows, dkeys, dlog = inside_gradients(rows, keys, logs, inside, decays, d)
    dlog.add_((right[:, 2 * C :] * dend).sum(2).mul_(total.squeeze(2)).unsqueeze(1))
    da, dr, db, dk = (from_chunks(x, B, T) for d in (drows, dkeys) for x in d.split(C, 1))
    return dr, from_chunks(dlog, B, T), dk, from_chunks(dv, B, T).to(dtype), da, db, dstate


_chunked = Differentiable("wkv7_chunked", _forward, _gradient, outputs=2, option="int", native=WKV7_NATIVE)


def _pass_states(
    free: Tensor, values: Tensor, after: Tensor, added: Tensor, total: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`right` [M, 2C + K, V], that is u, v and the state before each chunk, and the state after the last.

    `free` [M, C, V + K] is u where the state is zero, and the matrix that takes the state to the rest of u; `after`
    [M, C, K] writes u into the next state, `added` [M, K, V] is what v writes, `total` [M, K, 1] the chunk's decay.
    """
    M, C, V = values.shape
    right = torch.cat((values.new_empty(M, C, V), values, torch.empty_like(added)), 1)
    end = state.flatten(0, 1)
    by_chunk = zip(*(x.split(len(end)) for x in (right, free, after, added, total)), strict=True)
    for chunk, known, write, more, decay in by_chunk:
        chunk[:, 2 * C :] = end
        removed = torch.baddbmm(known[:, :, :V], known[:, :, V:], end)
        chunk[:, :C] = removed
        end = torch.baddbmm(torch.addcmul(more, end, decay), write.mT, removed)
    return right, end.view_as(state)


def _pass_gradients(
    dright: Tensor, read: Tensor, after: Tensor, total: Tensor, dfinal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at u [M, C, V], at the state after each chunk [M, K, V] and at the first state [B, H, K, V].

    `dright` is the gradient that y sends; `read` [M, C, K] is the matrix that takes a state to u.
    """
    C = read.shape[1]
    dend = dfinal.flatten(0, 1)
    du, dends = dright.new_empty(len(dright), C, dright.shape[2]), dright.new_empty(len(dright), *dend.shape[1:])
    by_chunk = zip(*(x.split(len(dend)) for x in (du, dends, dright, read, after, total)), strict=True)
    for to_u, to_end, sent, reading, write, decay in reversed(list(by_chunk)):
        to_end.copy_(dend)
        to_u.copy_(torch.baddbmm(sent[:, :C], write, dend))
        dend = torch.baddbmm(torch.addcmul(sent[:, 2 * C :], dend, decay), reading.mT, to_u)
    return du, dends, dend.view_as(dfinal)


WKV7 = register(
    Op(
        "wkv7",
        {
            "loop": Implementation(lambda _, *inputs: wkv7_loop(*inputs)),
            "chunked": Implementation(
                lambda execution, r, log_decay, k, v, a, b, state: wkv7_chunked(
                    r, log_decay, k, v, a, b, state, chunk_length_of(execution, r.shape[1], r.shape[3])
                )
            ),
        },
        one_token="loop",
    )
)
