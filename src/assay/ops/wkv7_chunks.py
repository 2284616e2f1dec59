"""Inside the chunks of the RWKV-7 recurrence: scores between tokens, rows and keys carried to the ends, gradients.

Every chunk has 2C rows, a and then r, and 2C keys, b and then k. A row of a meets the state before its own token, a row
of r the state after it. With w the decays, each as long as K, for s < t

    scores[a_t, s] = sum_K a_t key_s prod_{s<i<t} w_i     scores[r_t, s] = sum_K r_t w_t key_s prod_{s<i<t} w_i

and scores[r_t, t] = r_t . key_t; before[a_t] = a_t prod_{i<t} w_i, before[r_t] = r_t w_t prod_{i<t} w_i and
after[s] = key_s prod_{i>s} w_i. With r w in place of r these are the sums of wkv_chunks: here in the factored form, and
in the chunks that decay too hard for that by halves.

Shapes: M chunks of all sequences and heads, C tokens in a chunk (a power of two), K key width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from assay.ops.execution import extra_work
from assay.ops.wkv_chunks import Decays, halved, halved_gradients


class Inside(NamedTuple):
    """`scores` [M, 2C, 2C] of rows against keys, `before` [M, 2C, K] of the rows and `after` [M, 2C, K] of the keys."""

    scores: Tensor
    before: Tensor
    after: Tensor


def inside_chunks(rows: Tensor, keys: Tensor, log_decay: Tensor) -> tuple[Inside, Tensor, Decays]:
    """Everything from rows and keys [M, 2C, K], in the order of the module's docstring, and log_decay [M, C, K]; second
    stands [scores | before], of which the first two of Inside are views.
    """
    M, C, K = log_decay.shape
    decays = Decays.of(log_decay)
    since, extreme = decays.since, decays.extreme()
    left = rows.new_empty(M, 2 * C, 2 * C + K)
    scores, before = left[:, :, : 2 * C], left[:, :, 2 * C :]
    before[:, 0] = rows[:, 0]
    torch.mul(rows[:, 1:C], since[:, :-1], out=before[:, 1:C])
    torch.mul(rows[:, C:], since, out=before[:, C:])
    scaled = (_pair(keys) / since.unsqueeze(1)).view(M, 2 * C, K)
    product = before @ scaled.mT
    torch.mul(_blocks(product), _earlier(product), out=_blocks(scores))
    inside = Inside(scores, before, scaled.view(M, 2, C, K).mul_(since[:, None, -1:]).view(M, 2 * C, K))
    if len(extreme):
        with extra_work():
            exact = _halved(_carrying(rows[extreme], log_decay[extreme]), keys[extreme], log_decay[extreme])
        for whole, part in zip(inside, exact, strict=True):
            whole[extreme] = part
    _own(scores).copy_((_pair(keys) * rows[:, None, C:]).sum(-1))
    return inside, left, decays


def inside_gradients(
    rows: Tensor, keys: Tensor, log_decay: Tensor, inside: Inside, decays: Decays, d: Inside
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at rows, keys and log_decay from those at `inside`, `d`, whose scores are changed in place."""
    C = log_decay.shape[1]
    r, w = rows[:, C:], log_decay.exp()
    down = _own(d.scores).unsqueeze(-1).contiguous()
    _blocks(d.scores).mul_(_earlier(d.scores))
    drows, dkeys, dlog = _factored_gradients(keys, inside, decays.since, d)
    extreme = decays.extreme()
    if len(extreme):
        parts = [x[extreme] for x in (rows, keys, log_decay, *d)]
        exact = _halved_gradients(_carrying(parts[0], parts[2]), *parts[1:])
        for whole, part in zip((drows, dkeys, dlog), exact, strict=True):
            whole[extreme] = part
    dr = drows[:, C:].mul_(w)
    dlog.addcmul_(dr, r)
    dr.add_((down * _pair(keys)).sum(1))
    _pair(dkeys).addcmul_(down, r.unsqueeze(1))
    return drows, dkeys, dlog


def _factored_gradients(keys: Tensor, inside: Inside, since: Tensor, d: Inside) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at rows (where those of r already carry their w), keys and log_decay, in the factored form."""
    M, C, K = since.shape
    scaled = (_pair(keys) / since.unsqueeze(1)).view(M, 2 * C, K)
    drows = torch.baddbmm(d.before, d.scores, scaled)
    dkeys = d.scores.mT @ inside.before
    # A decay between s and t is what a row gained beyond s and a key lost up to t; before and after add their own.
    owed = _pair(scaled.mul_(dkeys)).sum(1)
    gained = _pair(inside.before * drows).sum(1).sub_(owed)
    beyond = torch.ones(C, C, dtype=since.dtype, device=since.device).triu(1).expand(M, C, C)
    dlog = torch.baddbmm(owed, beyond, gained, beta=-1)
    dlog[:, 1:].add_(_pair(inside.after * d.after).sum(1).cumsum(1)[:, :-1])
    _pair(dkeys).addcmul_(_pair(d.after), since[:, None, -1:]).div_(since.unsqueeze(1))
    _pair(drows)[:, :, 1:].mul_(since[:, None, :-1])
    return drows, dkeys, dlog


def _halved(rows: Tensor, keys: Tensor, log_decay: Tensor) -> Inside:
    """The exact form for a few chunks: each of the two kinds of rows against each of the two kinds of keys."""
    M, C, _ = log_decay.shape
    scores, before, after = halved(*_crossed(rows, keys), log_decay.exp().repeat(4, 1, 1))
    scores = scores.view(2, 2, M, C, C).permute(2, 0, 3, 1, 4).reshape(M, 2 * C, 2 * C)
    before = before.reshape(2, 2, M, C, -1)[:, 0]
    after = after.reshape(2, 2, M, C, -1)[0]
    return Inside(scores, *(x.transpose(0, 1).flatten(1, 2) for x in (before, after)))


def _halved_gradients(
    rows: Tensor, keys: Tensor, log_decay: Tensor, dscores: Tensor, dbefore: Tensor, dafter: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `_halved`, at rows, keys and log_decay."""
    M, C, K = log_decay.shape
    crossed = _blocks(dscores).permute(1, 3, 0, 2, 4).reshape(4 * M, C, C)
    to_rows = rows.new_zeros(2, 2, M, C, K)
    to_rows[:, 0] = _pair(dbefore).transpose(0, 1)
    to_keys = rows.new_zeros(2, 2, M, C, K)
    to_keys[0] = _pair(dafter).transpose(0, 1)
    ends = to_rows.view(4 * M, C, K), to_keys.view(4 * M, C, K)
    drows, dkeys, dlog = halved_gradients(*_crossed(rows, keys), log_decay.exp().repeat(4, 1, 1), crossed, *ends)
    drows = drows.reshape(2, 2, M, C, K).sum(1).transpose(0, 1).reshape(M, 2 * C, K)
    dkeys = dkeys.reshape(2, 2, M, C, K).sum(0).transpose(0, 1).reshape(M, 2 * C, K)
    return drows, dkeys, dlog.reshape(4, M, C, K).sum(0)


def _carrying(rows: Tensor, log_decay: Tensor) -> Tensor:
    """`rows` where those of r carry the decay of their own token, in place."""
    rows[:, log_decay.shape[1] :].mul_(log_decay.exp())
    return rows


def _crossed(rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """[4M, C, K] each: (a, b), (a, k), (r, b), (r, k)."""
    a, r = rows.chunk(2, 1)
    b, k = keys.chunk(2, 1)
    return torch.cat((a, a, r, r)), torch.cat((b, k, b, k))


def _pair(x: Tensor) -> Tensor:
    """A view [M, 2, C, K] of [M, 2C, K]."""
    return x.view(len(x), 2, -1, x.shape[2])


def _blocks(scores: Tensor) -> Tensor:
    """A view [M, 2, C, 2, C] of [M, 2C, 2C], whatever its strides."""
    C = scores.shape[1] // 2
    return scores.view(-1, 2, C, 2, C)


def _earlier(scores: Tensor) -> Tensor:
    """[C, 1, C] to be multiplied with `_blocks`: one where the key is earlier than the row, else zero."""
    C = scores.shape[1] // 2
    return torch.ones(C, C, dtype=scores.dtype, device=scores.device).tril(-1).unsqueeze(1)


def _own(scores: Tensor) -> Tensor:
    """A view [M, 2, C] of what a row of r sees of the keys b and k of its own token."""
    return _blocks(scores)[:, 1].diagonal(dim1=1, dim2=3)
