"""State space duality in single chunks of single heads, by the decay between every two tokens: exact at any decay.

That decay is 2 to the difference of two sums, formed in float64: exact to float32's last digits down to a log decay of
about -1e9 a token; at -1e10 later tokens of the chunk are off by 1e-5, from -1e16 on by all, and at -inf they are no
number.

Shapes: m chunks, each of one head, L tokens in a chunk, P head width, N state width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LOG2_E = math.log2(math.e)


class Chunks(NamedTuple):
    """x [m, L, P], log_decay [m, L], b and c [m, L, N], all of one type."""

    x: Tensor
    log_decay: Tensor
    b: Tensor
    c: Tensor


class Decays(NamedTuple):
    """Between pairs of tokens [m, L, L] (1 above the diagonal), since the chunk's start and until its end [m, L, 1]."""

    between: Tensor
    since_start: Tensor
    until_end: Tensor

    @classmethod
    def of(cls, log_decay: Tensor) -> "Decays":
        """From log decays [m, L]. Powers of 2: MKL's exp takes fifty times as long where float32 underflows."""
        sums = (log_decay.double().cumsum(1) * _LOG2_E).unsqueeze(2)
        dtype = log_decay.dtype
        between = (sums - sums.mT).to(dtype).tril_().exp2_()
        return cls(between, sums.to(dtype).exp2(), (sums[:, -1:] - sums).to(dtype).exp2())


def from_nothing(chunks: Chunks) -> tuple[Tensor, Tensor]:
    """What outputs [m, L, P] get from earlier tokens, and the state after the chunk [m, N, P], from none before it."""
    x, log_decay, b, c = chunks
    decays = Decays.of(log_decay)
    mixing = (c @ b.mT).tril_(-1).mul_(decays.between)
    return mixing @ x, b.mT @ (x * decays.until_end)


def gradients(chunks: Chunks, state: Tensor, dy: Tensor, dend: Tensor) -> Chunks:
    """Those at x, b and c through `from_nothing`; at log_decay also through the state before the chunk, [m, N, P], at b
    and c also through what tokens give themselves.

    `dy` [m, L, P] and `dend` [m, N, P] are the gradients of outputs and of the state after the chunk.
    """
    x, log_decay, b, c = chunks
    between, since_start, until_end = Decays.of(log_decay)
    scores = (c @ b.mT).tril_()
    d_mixing = (dy @ x.mT).mul_(between)
    d_scores = d_mixing.tril()
    d_x_end = (b @ dend).mul_(until_end)
    scores.diagonal(dim1=1, dim2=2).zero_()  # a token's decay with itself is 1 whatever log_decay is
    dx = torch.baddbmm(d_x_end, scores.mul(between).mT, dy)
    d_between = d_mixing.mul_(scores)
    across = (dy * (c @ state).mul_(since_start)).sum(2)
    d_sums = across + d_between.sum(2) - d_between.sum(1)
    d_whole = (dend * state).sum((1, 2)) * since_start[:, -1, 0]
    d_log_decay = d_sums.flip(1).cumsum(1).flip(1) + d_whole.unsqueeze(1)
    d_log_decay[:, 1:] += (d_x_end * x).sum(2)[:, :-1].cumsum(1)
    db = torch.baddbmm((x * until_end) @ dend.mT, d_scores.mT, c)
    return Chunks(dx, d_log_decay, db, d_scores @ b)
