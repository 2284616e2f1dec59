"""Inside the chunks of the RWKV-6 recurrence: scores between tokens, r and k carried to the chunk's ends, gradients.

The sums are those of wkv_chunks: here in the factored form, and in the chunks that decay too hard for that by halves.

Shapes: M chunks of all sequences and heads, C tokens in a chunk (a power of two), K key width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from assay.ops.execution import extra_work
from assay.ops.wkv_chunks import Decays, halved, halved_gradients


class Inside(NamedTuple):
    """`scores` [M, C, C], zero on the diagonal and above; `before` and `after` [M, C, K]."""

    scores: Tensor
    before: Tensor
    after: Tensor


def inside_chunks(r: Tensor, k: Tensor, log_decay: Tensor) -> tuple[Inside, Decays]:
    """Everything from r, k and log_decay, each [M, C, K]."""
    decays = Decays.of(log_decay)
    since, extreme = decays.since, decays.extreme()
    before = r.clone()
    before[:, 1:].mul_(since[:, :-1])
    keys = k / since
    inside = Inside((before @ keys.mT).tril_(-1), before, keys.mul_(since[:, -1:]))
    if len(extreme):
        with extra_work():
            exact = halved(r[extreme], k[extreme], log_decay[extreme].exp())
        for whole, part in zip(inside, exact, strict=True):
            whole[extreme] = part
    return inside, decays


def inside_gradients(
    r: Tensor, k: Tensor, log_decay: Tensor, inside: Inside, decays: Decays, d: Inside
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at r, k and log_decay from those at `inside`, `d`, whose scores are zero as inside's."""
    since, extreme = decays.since, decays.extreme()
    C = r.shape[1]
    keys = k / since
    dbefore = torch.baddbmm(d.before, d.scores, keys)
    dkeys = d.scores.mT @ inside.before
    # A decay between s and t is what r_t gained beyond s and k_s lost up to t; r before and k after add their own.
    owed = keys.mul_(dkeys)
    gained = (inside.before * dbefore).sub_(owed)
    beyond = torch.ones(C, C, dtype=r.dtype, device=r.device).triu(1).expand(len(r), C, C)
    dlog = torch.baddbmm(owed, beyond, gained, beta=-1)
    dlog[:, 1:].add_((inside.after * d.after).cumsum(1)[:, :-1])
    dkeys.addcmul_(d.after, since[:, -1:]).div_(since)
    dbefore[:, 1:].mul_(since[:, :-1])
    gradients = dbefore, dkeys, dlog
    if len(extreme):
        parts = (r, k, log_decay.exp(), *d)
        exact = halved_gradients(*(x[extreme] for x in parts))
        for whole, part in zip(gradients, exact, strict=True):
            whole[extreme] = part
    return gradients
