"""The chunked form of the delta rule: matrix products within all chunks at once, a short loop for the state.

With w_t = beta_t (v_t - E_t^T k_t), what token t writes, and d(t, i) = a_{i+1} ... a_t, unrolling the recurrence from
the state S before the chunk gives

    S_t = d(t, 0) S + sum_{i<=t} d(t, i) k_i w_i^T
    w_t + beta_t sum_{i<t} e(t, i) (k_t . k_i) w_i = beta_t (v_t - e(t, 0) S^T k_t)

where e(t, i) = d(t, i) if the error is taken after the decay and d(t-1, i) if before it: never a quotient of decays.
The left side of the second line is A W with A unit lower triangular (the UT transform, Yang et al. 2024, arXiv
2406.06484, section 3.2; with decays, arXiv 2412.06464, section 3.3). So for a chunk of C tokens

    W = A^-1 (beta error),    error = v - e(., 0) k S
    S' = d(C, 0) S + (d(C, .) k)^T W
    Y = d(., 0) q S + R W,    R[t, i] = d(t, i) q_t . k_i for i <= t

A^-1 does not depend on the state; only the first two lines go chunk by chunk, and backward their transposes.

Shapes: M = n B H chunks of all sequences and heads, chunk-major, C tokens in a chunk, K key width, V value width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops.execution import equal_chunks
from assay.ops.opaque import Differentiable

_LOG2_E = math.log2(math.e)


class Decays(NamedTuple):
    """Products of decays within a chunk. `read` and `erase` [M, C, C] are d and e between two tokens, zero where there
    is nothing to read or erase; since the start, `read_start` and `erase_start`, and until the `end`, [M, C, 1].
    """

    read: Tensor
    erase: Tensor
    read_start: Tensor
    erase_start: Tensor
    end: Tensor


class Inside(NamedTuple):
    """What else the backward pass needs: R `scores`, `overlap` e(t, i) k_t . k_i and `inverse` of A, all [M, C, C];
    `key_start` e(t, 0) k_t and `key_end` d(C, t) k_t [M, C, K]; the states before each chunk, `starts` [M, K, V];
    `error` and W, `written`, [M, C, V].
    """

    scores: Tensor
    overlap: Tensor
    inverse: Tensor
    key_start: Tensor
    key_end: Tensor
    starts: Tensor
    error: Tensor
    written: Tensor


def chunked_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor, chunk_length: int, before: bool
) -> tuple[Tensor, Tensor]:
    """(y [B, T, H, V], state [B, H, K, V]) by chunks of equal length, at most `chunk_length`; first derivatives only.

    All operands share one floating type; `before` says that the error is taken before the decay.
    """
    y, state = _chunked(q, k, v, beta, log_decay, state, option=([chunk_length, int(before)],))
    return y, state


def _by_chunk(x: Tensor, n: int, C: int) -> Tensor:
    """[B, T, H, V] -> [n B H, C, V], zeros after the end: tokens that neither write nor decay."""
    B, T, H, V = x.shape
    if n * C > T:
        x = F.pad(x, (0, 0, 0, 0, 0, n * C - T))
    return x.reshape(B, n, C, H, V).permute(1, 0, 3, 2, 4).reshape(-1, C, V)


def _from_chunks(x: Tensor, B: int, T: int, C: int) -> Tensor:
    """[n B H, C, V] -> [B, T, H, V], without what follows the end."""
    V = x.shape[-1]
    x = x.reshape(-(-T // C), B, -1, C, V).permute(1, 0, 3, 2, 4)
    return x.reshape(B, -1, x.shape[3], V)[:, :T].contiguous()


def _decays(log_decay: Tensor, before: bool) -> Decays:
    """Each is 2 to a difference of two sums, in float64.

    What a sum has lost is 1e-16 of the strongest log decay before in the chunk, and that is the relative error of every
    later decay: below float32's own down to about -1e9, 1e-5 at -1e10, and all of it from -1e16 on. At -inf, where a
    difference is no number, so is the result; the loop takes it.

    Powers of 2, because MKL's exp takes fifty times as long where float32 underflows.
    """
    sums = log_decay.double().cumsum(1).mul_(_LOG2_E)
    erase_sums = F.pad(sums[:, :-1], (0, 0, 1, 0)) if before else sums

    def power(exponents: Tensor) -> Tensor:
        return exponents.to(log_decay.dtype).exp2()

    read = power(sums - sums.mT).tril_()
    erase = power(erase_sums - sums.mT).tril_(-1) if before else read.tril(-1)
    read_start = power(sums)
    erase_start = power(erase_sums) if before else read_start
    return Decays(read, erase, read_start, erase_start, power(sums[:, -1:] - sums))


def _forward(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, state: Tensor, how: Sequence[int]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """q and k [B, T, H, K], v [B, T, H, V], beta and log_decay [B, T, H], state [B, H, K, V] -> y as v, state.

    `how`: the longest chunk, and 1 where the error is taken before the decay.
    """
    B, T, before = len(v), v.shape[1], bool(how[1])
    n, C = equal_chunks(T, how[0])
    q, k, v, beta, log_decay = (_by_chunk(x, n, C) for x in (q, k, v, beta[..., None], log_decay[..., None]))
    decays = _decays(log_decay, before)
    overlap = (k @ k.mT).mul_(decays.erase)
    one = torch.eye(k.shape[1], dtype=k.dtype, device=k.device)
    inverse = torch.linalg.solve_triangular(overlap * beta, one, upper=False, unitriangular=True)
    key_start, key_end = decays.erase_start * k, decays.end * k
    solve, whole = inverse * beta.mT, decays.read_start[:, -1:]
    starts, error, written, last = _pass_states(key_start, key_end, v, solve, whole, state)
    scores = (q @ k.mT).mul_(decays.read)
    y = torch.baddbmm(scores @ written, decays.read_start * q, starts)
    inside = Inside(scores, overlap, inverse, key_start, key_end, starts, error, written)
    return (_from_chunks(y, B, T, C), last), (q, k, beta, *decays, *inside)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], how: Sequence[int]) -> tuple[Tensor, ...]:
    dy, d_last = gradients
    B, T = dy.shape[:2]
    n, C = equal_chunks(T, how[0])
    q, k, beta, *rest = saved
    found = _backward(
        _by_chunk(dy, n, C), d_last, q, k, beta, Decays(*rest[:5]), Inside(*rest[5:]), before=bool(how[1])
    )
    d_q, d_k, d_v, d_beta, d_log_decay = (_from_chunks(x, B, T, C) for x in found[:5])
    return d_q, d_k, d_v, d_beta.squeeze(3), d_log_decay.squeeze(3), found[5]


_chunked = Differentiable("delta_rule_chunked", _forward, _gradient, outputs=2, option="int[]")


def _pass_states(
    key_start: Tensor, key_end: Tensor, v: Tensor, solve: Tensor, whole: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`starts`, `error` and `written` of all chunks, and the state after the last [B, H, K, V].

    `solve` is A^-1 times beta, `whole` [M, 1, 1] all decays of a chunk.
    """
    N = state.shape[0] * state.shape[1]
    starts = state.new_empty(len(v), *state.shape[2:])
    error, written = torch.empty_like(v), torch.empty_like(v)
    last = torch.empty_like(state, memory_format=torch.contiguous_format)
    starts[:N] = state.flatten(0, 1)
    ends = (*starts.split(N)[1:], last.view_as(starts[:N]))
    chunks = zip(
        *(x.split(N) for x in (key_start, key_end, v, solve, whole, starts, error, written)), ends, strict=True
    )
    for key, late_key, value, inverse, decay, start, wrong, write, end in chunks:
        torch.baddbmm(value, key, start, alpha=-1, out=wrong)
        torch.bmm(inverse, wrong, out=write)
        torch.baddbmm(torch.mul(start, decay, out=end), late_key.mT, write, out=end)
    return starts, error, written, last


def _pass_gradients(
    d_written: Tensor, d_starts: Tensor, d_last: Tensor, beta: Tensor, whole: Tensor, inside: Inside
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the states after each chunk [M, K, V], of beta times error, of v, and of the first state.

    `d_written` and `d_starts`, what comes from y alone, are used up.
    """
    N = d_last.shape[0] * d_last.shape[1]
    d_ends, d_scaled_error, d_v = torch.empty_like(d_starts), torch.empty_like(d_written), torch.empty_like(d_written)
    d_state = torch.empty_like(d_last, memory_format=torch.contiguous_format)
    d_ends[-N:] = d_last.flatten(0, 1)
    befores = (d_state.view_as(d_ends[:N]), *d_ends.split(N)[:-1])
    tensors = (d_written, d_starts, beta, whole, inside.key_start, inside.key_end, inside.inverse)
    chunks = zip(*(x.split(N) for x in (*tensors, d_ends, d_scaled_error, d_v)), befores, strict=True)
    for d_write, d_start, strength, decay, key, late_key, inverse, d_end, d_scaled, d_value, d_before in reversed(
        list(chunks)
    ):
        torch.bmm(inverse.mT, d_write.baddbmm_(late_key, d_end), out=d_scaled)
        torch.mul(d_scaled, strength, out=d_value)
        torch.baddbmm(d_start.addcmul_(decay, d_end), key.mT, d_value, alpha=-1, out=d_before)
    return d_ends, d_scaled_error, d_v, d_state


def _backward(
    dy: Tensor, d_last: Tensor, q: Tensor, k: Tensor, beta: Tensor, decays: Decays, inside: Inside, before: bool
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, beta, log_decay and the state, through the states first, then within the chunks."""
    scores, overlap, _, key_start, key_end, starts, error, written = inside
    d_written, d_starts = scores.mT @ dy, (decays.read_start * q).mT @ dy
    whole = decays.read_start[:, -1:]
    d_ends, d_scaled_error, d_v, d_state = _pass_gradients(d_written, d_starts, d_last, beta, whole, inside)

    d_q = (dy @ starts.mT).mul_(decays.read_start)
    minus_d_key_start, d_key_end = d_v @ starts.mT, written @ d_ends.mT
    d_logs = (
        torch.linalg.vecdot(d_q, q),
        -torch.linalg.vecdot(minus_d_key_start, key_start),
        torch.linalg.vecdot(d_key_end, key_end),
        torch.linalg.vecdot(d_ends.flatten(1), starts.flatten(1)) * whole[:, 0, 0],
    )
    d_k = d_key_end.mul_(decays.end).addcmul_(minus_d_key_start, decays.erase_start, value=-1)

    d_scores = dy @ written.mT
    minus_d_system = d_scaled_error @ written.mT
    read_pairs, erase_pairs = d_scores * scores, minus_d_system * overlap
    d_beta = torch.linalg.vecdot(d_scaled_error, error) - erase_pairs.sum(2)
    d_log_decay = _log_decay_gradient(read_pairs, erase_pairs.mul_(-beta), *d_logs, before)

    d_scores.mul_(decays.read)
    minus_d_overlap = minus_d_system.mul_(decays.erase).mul_(beta)
    d_q.baddbmm_(d_scores, k)
    d_k.baddbmm_(d_scores.mT, q).baddbmm_(minus_d_overlap + minus_d_overlap.mT, k, alpha=-1)
    return d_q, d_k, d_v, d_beta.unsqueeze(2), d_log_decay.unsqueeze(2), d_state


def _log_decay_gradient(
    read_pairs: Tensor,
    erase_pairs: Tensor,
    read_start: Tensor,
    erase_start: Tensor,
    end: Tensor,
    whole: Tensor,
    before: bool,
) -> Tensor:
    """[M, C] from the gradients of the logarithms of all products of decays: [M, C, C], [M, C] and, of the whole, [M].

    An empty product is 1 whatever the decays are: its large terms are dropped, not left to cancel.
    """
    read_pairs.diagonal(dim1=1, dim2=2).zero_()
    if before:
        erase_pairs.diagonal(offset=-1, dim1=1, dim2=2).zero_()
    erase_sums = erase_start + erase_pairs.sum(2)
    if before:  # products that end one token earlier
        erase_sums = F.pad(erase_sums[:, 1:], (0, 1))
    d_sums = read_start + read_pairs.sum(2) + erase_sums - read_pairs.add_(erase_pairs).sum(1)
    d_log_decay = d_sums.flip(1).cumsum(1).flip(1) + whole[:, None]
    d_log_decay[:, 1:] += end[:, :-1].cumsum(1)
    return d_log_decay
