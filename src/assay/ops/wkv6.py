"""The RWKV-6 recurrence: the loop that defines it, and a chunked form that is exact at every decay.

    y_t = r_t^T (S_{t-1} + diag(u) k_t v_t^T),   S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T

(Peng et al. 2024, "Eagle and Finch", arXiv 2404.05892, section 4.)

Shapes: B batch, T tokens of this call, H heads, K key width, V value width. Inside the chunked form, C is the
chunk length, n = ceil(T / C) and M = n B H counts the chunks of all sequences and heads.

The chunked form works on all chunks at once and passes the state from each to the next; what happens inside a chunk,
at every decay without a clamp, is in wkv6_chunks. Its form in C++ (wkv6_native) goes token by token instead.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import Execution
from assay.ops.forms import Implementation, Op, register
from assay.ops.opaque import Differentiable
from assay.ops.wkv6_chunks import Inside, inside_chunks, inside_gradients
from assay.ops.wkv6_native import WKV6_NATIVE
from assay.ops.wkv_chunks import Decays, by_chunk, from_chunks, in_one_type, refuse_length


def wkv6(
    r: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H K"],
    bonus: Float[Tensor, "H K"],
    state: Float[Tensor, "B H K V"] | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs in v's type and the state after the last token, in float32 (float64 for float64 values).

    `log_decay` is at most 0 and never clamped; `state` None means zeros. A single token, as in decoding, always
    runs as one step of the loop and is recorded as such. The chunks are those of `chunk_length_of`.
    """
    result: tuple[Tensor, Tensor] = WKV6.run(execution, r.shape[1], r, k, v, log_decay, bonus, state)
    return result


def chunk_length_of(execution: Execution, tokens: int, key_width: int) -> int:
    """The largest power of two within the execution's chunk length and max(16, K / 2), no more than `tokens` need.

    Longer chunks spend more on scores than they save on states.
    """
    longest = min(execution.chunk_length, max(16, key_width // 2))
    return min(1 << longest.bit_length() - 1, 1 << (tokens - 1).bit_length())


def wkv6_flops(
    tokens: int, n_heads: int, key_width: int, value_width: int, execution: Execution
) -> tuple[int, dict[str, int]]:
    """Forward FLOPs on one sequence: those in matrix products, and by name those that are elementwise.

    A head of the loop takes 7 K V + K a token, all elementwise. Chunked, where no chunk decays so hard that it has to
    be halved: per chunk of C tokens scores 2 C^2 K, writes 2 C K V and outputs 2 C (C + K) V, and elementwise
    8 C K + 2 K V for decaying r, k and the state and for the bonus.
    """
    K, V = key_width, value_width
    if WKV6.form(execution, tokens) == "loop":
        return 0, {"recurrence": tokens * n_heads * (7 * K * V + K)}
    C = chunk_length_of(execution, tokens, K)
    chunks = -(-tokens // C) * n_heads
    products = 2 * C * C * K + 2 * C * K * V + 2 * C * (C + K) * V
    return chunks * products, {"decays": chunks * (8 * C * K + 2 * K * V)}


def wkv6_loop(
    r: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H K"],
    bonus: Float[Tensor, "H K"],
    state: Float[Tensor, "B H K V"] | None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The definition, one token at a time."""
    with torch.autocast(r.device.type, enabled=False):
        out_dtype = v.dtype
        r, k, v, log_decay, bonus, state = in_one_type((r, k, v, log_decay, bonus), v, state)
        decay = log_decay.exp()
        outputs = []
        for t in range(r.shape[1]):
            update = k[:, t, :, :, None] * v[:, t, :, None, :]
            read = state + bonus[:, :, None] * update
            outputs.append((r[:, t, :, :, None] * read).sum(-2))
            state = decay[:, t, :, :, None] * state + update
        return torch.stack(outputs, 1).to(out_dtype), state


def wkv6_chunked(
    r: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H K"],
    bonus: Float[Tensor, "H K"],
    state: Float[Tensor, "B H K V"] | None,
    chunk_length: int,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same numbers by matrix products over chunks of `chunk_length` tokens, a power of two; T is any length."""
    refuse_length(chunk_length)
    operands = in_one_type((r, k, v, log_decay, bonus), v, state)
    if r.dtype == k.dtype == v.dtype:
        operands[:3] = r, k, v
    y, state = _chunked(*operands, option=(chunk_length,))
    return y.to(v.dtype), state


def _forward(
    r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, state: Tensor, C: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Per chunk, y = [scores | before] [v ; S_start], where the diagonal of the scores holds the bonus, and
    S_end = (all decays of the chunk) S_start + after^T v.

    r, k and v may be narrower than the others, in whose type everything is computed.
    """
    B, T, H, K = r.shape
    given = v.dtype
    r, k, v = (x.to(state.dtype) for x in (r, k, v))
    rows, keys, logs = (by_chunk((x,), C) for x in (r, k, log_decay))
    inside, decays = inside_chunks(rows, keys, logs)
    own = (rows * keys).view(-1, H, C * K).mul_(bonus.repeat(1, C)).view(-1, C, K).sum(-1)
    inside.scores.diagonal(dim1=1, dim2=2).copy_(own)
    left = torch.cat((inside.scores, inside.before), 2)
    right = by_chunk((v,), C, K)
    added = inside.after.mT @ right[:, :C]
    final = _pass_states(right[:, C:], added, decays.total.unsqueeze(2), state)
    return (from_chunks(left @ right, B, T).to(given), final), (rows, keys, logs, left, right, inside.after, *decays)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], C: int) -> tuple[Tensor, ...]:
    dy, dfinal = gradients
    bonus, rows, keys, logs, left, right, after, since, hard = saved
    B, T, H, _ = dy.shape
    M, _, K = rows.shape
    v, start = right[:, :C], right[:, C:]
    given = dy.dtype
    dy = by_chunk((dy.to(dfinal.dtype),), C)
    dleft = dy @ right.mT
    dright = left.mT @ dy
    total = since[:, -1].unsqueeze(2)
    dend, dstate = _pass_gradients(dright[:, C:], total, dfinal)
    dv = torch.baddbmm(dright[:, :C], after, dend)
    own = dleft[:, :, :C].diagonal(dim1=1, dim2=2).unsqueeze(2).contiguous()
    d = Inside(dleft[:, :, :C].tril(-1), dleft[:, :, C:], v @ dend.mT)
    inside = Inside(left[:, :, :C], left[:, :, C:], after)
    dr, dk, dlog = inside_gradients(rows, keys, logs, inside, Decays(since, hard), d)
    dlog.add_((start * dend).sum(2).mul_(since[:, -1]).unsqueeze(1))
    dbonus = (rows * keys).mul_(own).view(-1, H, C, K).sum((0, 2))
    scaled = (own.view(-1, H, C, 1) * bonus.unsqueeze(1)).view(M, C, K)
    dr.addcmul_(scaled, keys)
    dk.addcmul_(scaled, rows)
    dr, dk, dv, dlog = (from_chunks(x, B, T) for x in (dr, dk, dv, dlog))
    return dr.to(given), dk.to(given), dv.to(given), dlog, dbonus, dstate


_chunked = Differentiable("wkv6_chunked", _forward, _gradient, outputs=2, keeps=(4,), option="int", native=WKV6_NATIVE)


def _pass_states(starts: Tensor, added: Tensor, total: Tensor, state: Tensor) -> Tensor:
    """Fill `starts` [M, K, V], the state before each chunk, and return the one after the last, [B, H, K, V].

    `added` [M, K, V] is what each chunk adds, `total` [M, K, 1] its whole decay.
    """
    final = torch.empty_like(state, memory_format=torch.contiguous_format).flatten(0, 1)
    froms = starts.split(len(final))
    froms[0].copy_(state.flatten(0, 1))
    steps = zip(froms, added.split(len(final)), total.split(len(final)), (*froms[1:], final), strict=True)
    for start, more, decay, end in steps:
        end.copy_(more).addcmul_(start, decay)
    return final.view_as(state)


def _pass_gradients(dstarts: Tensor, total: Tensor, dfinal: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient at the state after each chunk, [M, K, V], and at the first state, [B, H, K, V]."""
    dstate = torch.empty_like(dfinal, memory_format=torch.contiguous_format).flatten(0, 1)
    dends = dstarts.new_empty(dstarts.shape)
    tos = dends.split(len(dstate))
    tos[-1].copy_(dfinal.flatten(0, 1))
    steps = zip(tos, dstarts.split(len(dstate)), total.split(len(dstate)), (dstate, *tos[:-1]), strict=True)
    for dend, dstart, decay, before in reversed(list(steps)):
        before.copy_(dstart).addcmul_(dend, decay)
    return dends, dstate.view_as(dfinal)


WKV6 = register(
    Op(
        "wkv6",
        {
            "loop": Implementation(lambda _, *inputs: wkv6_loop(*inputs)),
            "chunked": Implementation(
                lambda execution, r, k, v, log_decay, bonus, state: wkv6_chunked(
                    r, k, v, log_decay, bonus, state, chunk_length_of(execution, r.shape[1], r.shape[3])
                )
            ),
        },
        one_token="loop",
    )
)
