"""The chunked form of the delta rule: matrix products within all chunks at once, a short loop for the state.

With w_t = beta_t k_t, the key that token t writes with, and d(t, i) = a_{i+1} ... a_t, unrolling the recurrence from
the state S before the chunk gives

    S_t = d(t, 0) S + sum_{i<=t} d(t, i) w_i n_i^T
    n_t + sum_{i<t} e(t, i) (k_t . w_i) n_i = v_t - e(t, 0) S^T k_t

where n_t = v_t - E_t^T k_t is the error, e(t, i) = d(t, i) if it is taken after the decay and d(t-1, i) if before it:
never a quotient of decays. The left side of the second line is A N with A unit lower triangular (the UT transform, Yang
et al. 2024, arXiv 2406.06484, section 3.2; with decays, arXiv 2412.06464, section 3.3). So for a chunk of C tokens

    N = U - G S,    U = A^-1 V,    G = A^-1 (e(., 0) k)
    S' = d(C, 0) S + (d(C, .) w)^T N
    Y = R N + d(., 0) q S,    R[t, i] = d(t, i) q_t . w_i for i <= t

Only N and S' go chunk by chunk, and backward their transposes. Queries and keys, R and A - 1 and so on are halves of
one tensor, for what is done to both.

Shapes: M = n B H chunks of all sequences and heads, chunk-major, C tokens in a chunk, K key width, V value width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops.delta_rule_native import DELTA_RULE_NATIVE
from assay.ops.execution import equal_chunks
from assay.ops.opaque import Differentiable

_LOG2_E = math.log2(math.e)
_SOLVED_AT_ONCE = 16
"""Tokens up to which a triangle is solved directly; longer ones are put together from halves by matrix products."""


class Decays(NamedTuple):
    """Products of decays within a chunk: d and e between two tokens, `pairs` [2, M, C, C] or [1, M, C, C] where they
    are one, zero above the diagonal; since the start, `start` [2, M, C, 1] or [1, M, C, 1]; until the `end` [M, C, 1];
    of the `whole` chunk [M, 1, 1], for the states.
    """

    pairs: Tensor
    start: Tensor
    end: Tensor
    whole: Tensor


def chunked_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    state: Tensor,
    chunk_length: int,
    before: bool,
) -> tuple[Tensor, Tensor]:
    """(y [B, T, H, V], state [B, H, K, V]) by chunks of equal length, at most `chunk_length`; first derivatives only.

    q, k, v and y share one floating type, in which matrices are multiplied; beta, log_decay and the state are of that
    type or a wider one, in which decays, the inverses and the states are computed. `before` says that the error is
    taken before the decay. Without a `log_decay` nothing decays, and products with decays are left out.
    """
    how = [chunk_length, int(before), int(log_decay is None)]
    y, state = _chunked(q, k, v, beta, beta if log_decay is None else log_decay, state, option=(how,))
    return y, state


def inverse_flops(C: int) -> tuple[int, int]:
    """FLOPs of the inverse of one triangle: those in matrix products, and those in the solve."""
    if C <= _SOLVED_AT_ONCE or C % 2:
        return 0, C**3
    products, solve = inverse_flops(C // 2)
    return 2 * products + 4 * (C // 2) ** 3, 2 * solve


def _by_chunk(x: Tensor, n: int, C: int) -> Tensor:
    """[B, T, H, V] -> a view [n, B, H, C, V], zeros after the end: tokens that neither write nor decay."""
    B, T, H, V = x.shape
    if n * C > T:
        x = F.pad(x, (0, 0, 0, 0, 0, n * C - T))
    return x.view(B, n, C, H, V).permute(1, 0, 3, 2, 4)


def _from_chunks(x: Tensor, like: Tensor) -> Tensor:
    """[M, C, V] -> [B, T, H, V] as `like`, without what follows the end."""
    B, T, H = like.shape[:3]
    C, V = x.shape[1:]
    x = x.reshape(-(-T // C), B, H, C, V).permute(1, 0, 3, 2, 4)
    return x.reshape(B, -1, H, V)[:, :T].contiguous()


def _decays(log_decay: Tensor, dtype: torch.dtype, before: bool) -> Decays:
    """From [M, C, 1], each is 2 to a difference of two sums, in float64; rounded to `dtype` at last.

    What a sum has lost is 1e-16 of the strongest log decay before in the chunk, and that is the relative error of every
    later decay: below float32's own down to about -1e9, 1e-5 at -1e10, and all of it from -1e16 on. At -inf, where a
    difference is no number, so is the result; the loop takes it.

    Powers of 2, because MKL's exp takes fifty times as long where float32 underflows.
    """
    sums = log_decay.double().cumsum(1).mul_(_LOG2_E)
    rows = torch.stack((sums, F.pad(sums[:, :-1], (0, 0, 1, 0)))) if before else sums[None]

    def power(exponents: Tensor) -> Tensor:
        return exponents.to(log_decay.dtype).exp2()

    pairs, start, end = power(rows - sums.mT), power(rows), power(sums[:, -1:] - sums)
    return Decays(pairs.to(dtype).tril_(), start.to(dtype), end.to(dtype), start[0, :, -1:])


def _weighed(pairs: Tensor, decays: Decays | None) -> Tensor:
    """Products of queries and of keys with keys [2, M, C, C], or gradients of them, times decays, in place.

    No key meets itself, and none a later query.
    """
    pairs = pairs.tril_() if decays is None else pairs.mul_(decays.pairs)
    pairs[1].diagonal(dim1=1, dim2=2).zero_()
    return pairs


def _sums(x: Tensor) -> Tensor:
    """Over the last axis: on a CPU a product with ones takes half as long as `sum`, as that axis is short."""
    total: Tensor = x @ x.new_ones(x.shape[-1])
    return total


def _inverse(triangle: Tensor) -> Tensor:
    """(1 + triangle)^-1 of strictly lower triangles [M, C, C]; what is on the diagonal and above is not read."""
    M, C, _ = triangle.shape
    if C <= _SOLVED_AT_ONCE or C % 2:
        one = torch.eye(C, dtype=triangle.dtype, device=triangle.device)
        solved: Tensor = torch.linalg.solve_triangular(triangle, one, upper=False, unitriangular=True)
        return solved
    half = C // 2
    inverse = torch.zeros_like(triangle)
    first, second = _inverse(torch.cat((triangle[:, :half, :half], triangle[:, half:, half:]))).split(M)
    inverse[:, :half, :half], inverse[:, half:, half:] = first, second
    inverse[:, half:, :half] = (second @ triangle[:, half:, :half] @ first).neg_()
    return inverse


def _forward(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor, how: Sequence[int]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """q and k [B, T, H, K], v [B, T, H, V], beta and log_decay [B, T, H], state [B, H, K, V] -> y as v, state.

    `how`: the longest chunk, 1 where the error is taken before the decay, and 1 where nothing decays: the log decays
    are not read then.
    """
    (n, C), wide = equal_chunks(v.shape[1], how[0]), state.dtype
    rows = torch.stack((_by_chunk(q, n, C), _by_chunk(k, n, C))).flatten(1, 3)
    beta = _by_chunk(beta[..., None], n, C).reshape(-1, C, 1).to(v.dtype)
    decays = None
    if not how[2]:
        decays = _decays(_by_chunk(log_decay[..., None], n, C).reshape(-1, C, 1), v.dtype, bool(how[1]))
    write_keys = rows[1] * beta
    whole = None if decays is None else decays.whole
    end_keys = write_keys if decays is None else write_keys * decays.end
    pairs = _weighed(_both(rows, write_keys.mT), decays)
    starts = rows if decays is None else rows * decays.start
    inverse = _inverse(pairs[1].to(wide)).to(v.dtype)
    erase_keys = inverse @ starts[1]
    errors = (inverse @ _by_chunk(v, n, C).reshape(-1, C, v.shape[3])).to(wide)
    states, last = _pass_states(errors, erase_keys.to(wide), end_keys.to(wide), whole, state)
    errors, states = errors.to(v.dtype), states.to(v.dtype)
    y = torch.baddbmm(pairs[0] @ errors, starts[0], states)
    kept = (beta, rows, write_keys, pairs, inverse, erase_keys, errors, states)
    return (_from_chunks(y, v), last), (kept if decays is None else (*kept, end_keys, starts, *decays))


def _both(rows: Tensor, others: Tensor) -> Tensor:
    """The products of both halves of `rows` [2, M, C, .] with `others` [M, ., .]."""
    product = rows.new_empty(*rows.shape[:3], others.shape[2])
    for half, out in zip(rows, product, strict=True):
        torch.bmm(half, others, out=out)
    return product


def _pass_states(
    errors: Tensor, erase_keys: Tensor, end_keys: Tensor, whole: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The states before each chunk [M, K, V] and the last [B, H, K, V]; makes `errors` N of what it holds, U.

    `whole` [M, 1, 1] is the product of all decays of a chunk, None where nothing decays.
    """
    N = state.shape[0] * state.shape[1]
    states = state.new_empty(len(errors), *state.shape[2:])
    last = torch.empty_like(state, memory_format=torch.contiguous_format)
    states[:N] = state.flatten(0, 1)
    ends = (*states.split(N)[1:], last.view_as(states[:N]))
    decays: Sequence[Tensor | None] = [None] * len(ends) if whole is None else whole.split(N)
    chunks = zip(*(x.split(N) for x in (states, errors, erase_keys, end_keys.mT)), decays, ends, strict=True)
    for start, error, erase, write, decay, end in chunks:
        torch.baddbmm(error, erase, start, alpha=-1, out=error)
        kept = start if decay is None else torch.mul(start, decay, out=end)
        torch.baddbmm(kept, write, error, out=end)
    return states, last


def _pass_gradients(
    d_states: Tensor, d_errors: Tensor, erase_keys: Tensor, end_keys: Tensor, whole: Tensor | None, N: int
) -> None:
    """Completes the gradients of N [M, C, V] and of the states, those before all chunks and the last [M + N, K, V].

    They hold what comes from Y alone and, for the last state, from its own gradient.
    """
    states = d_states.split(N)
    decays: Sequence[Tensor | None] = [None] * (len(states) - 1) if whole is None else whole.split(N)
    parts = (x.split(N) for x in (d_errors, erase_keys.mT, end_keys))
    for start, end, error, erase, write, decay in reversed(
        list(zip(states[:-1], states[1:], *parts, decays, strict=True))
    ):
        error.baddbmm_(write, end)
        kept = start.add_(end) if decay is None else start.addcmul_(end, decay)
        kept.baddbmm_(erase, error, alpha=-1)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], how: Sequence[int]) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, beta, log_decay and the state: through the states first, then within the chunks.

    Saved are beta [M, C, 1]; `rows` q and k [2, M, C, K]; `write_keys` w [M, C, K]; `pairs` R and A - 1 [2, M, C, C];
    the `inverse` of A [M, C, C]; `erase_keys` G [M, C, K]; `errors` N [M, C, V]; the `states` before each chunk
    [M, K, V]; and where there are decays `end_keys` d(C, .) w [M, C, K], `starts` d(., 0) q and e(., 0) k
    [2, M, C, K], and the decays.
    """
    dy, d_last = gradients
    beta, rows, write_keys, pairs, inverse, erase_keys, errors, states = saved[:8]
    decays = None if how[2] else Decays(*saved[10:])
    whole = None if decays is None else decays.whole
    end_keys, starts = (write_keys, rows) if decays is None else saved[8:10]
    M, K, V = states.shape
    N, low, wide = d_last.shape[0] * d_last.shape[1], dy.dtype, d_last.dtype
    n, C = M // N, rows.shape[2]

    d_y = _by_chunk(dy, n, C).reshape(M, C, V)
    d_errors = (pairs[0].mT @ d_y).to(wide)
    d_states = d_last.new_empty(M + N, K, V)
    d_states[:M], d_states[M:] = starts[0].mT @ d_y, d_last.flatten(0, 1)
    _pass_gradients(d_states, d_errors, erase_keys.to(wide), end_keys.to(wide), whole, N)
    d_state, d_ends = d_states[:N].view_as(d_last).clone(), d_states[N:].to(low)
    d_v = inverse.mT @ d_errors.to(low)
    d_rows = torch.stack((d_y, -d_v))

    d_pairs, d_starts, d_end_keys = _both(d_rows, errors.mT), _both(d_rows, states.mT), errors @ d_ends.mT
    d_log_decay = d_pairs.new_zeros(M, C, dtype=d_last.dtype)
    if decays is not None:
        d_log_decay = _log_decay_gradient(
            d_pairs * pairs,
            _sums((d_starts * starts).to(wide)),
            _sums((d_end_keys * end_keys).to(wide)),
            _sums((d_ends * states).flatten(1).to(wide)) * decays.whole[:, 0, 0],
            before=bool(how[1]),
        )
        d_starts.mul_(decays.start)
        d_end_keys.mul_(decays.end)
    _weighed(d_pairs, decays)
    d_q, d_k = d_starts
    d_q.baddbmm_(d_pairs[0], write_keys)
    d_k.baddbmm_(d_pairs[1], write_keys)
    d_write_keys = d_end_keys.baddbmm_(d_pairs[0].mT, rows[0]).baddbmm_(d_pairs[1].mT, rows[1])
    d_beta = _sums((d_write_keys * rows[1]).to(wide))
    d_k.addcmul_(d_write_keys, beta)
    found = (d_q, d_k, d_v, d_beta[..., None], d_log_decay[..., None])
    d_q, d_k, d_v, d_beta, d_log_decay = (_from_chunks(x, dy) for x in found)
    return d_q, d_k, d_v, d_beta.squeeze(3), d_log_decay.squeeze(3), d_state


def _log_decay_gradient(pairs: Tensor, starts: Tensor, end: Tensor, whole: Tensor, before: bool) -> Tensor:
    """[M, C] from the gradients of the logarithms of all products of decays.

    They are those of `pairs` [2, M, C, C], which are used up, of products since the start [2, M, C], until the end
    [M, C] and of the whole [M]. An empty product is 1 whatever the decays are: its large terms are dropped, not left to
    cancel.
    """
    pairs[0].diagonal(dim1=1, dim2=2).zero_()
    if before:
        pairs[1].diagonal(offset=-1, dim1=1, dim2=2).zero_()
    pairs = pairs.to(end.dtype)
    read, erase = _sums(pairs).add_(starts)
    if before:  # products that end one token earlier
        erase = F.pad(erase[:, 1:], (0, 1))
    d_sums = read + erase - pairs.sum(2).sum(0)
    d_log_decay: Tensor = d_sums.flip(1).cumsum(1).flip(1) + whole[:, None]
    d_log_decay[:, 1:] += end[:, :-1].cumsum(1)
    return d_log_decay


_chunked = Differentiable(
    "delta_rule_chunked", _forward, _gradient, outputs=2, option="int[]", native=DELTA_RULE_NATIVE
)
