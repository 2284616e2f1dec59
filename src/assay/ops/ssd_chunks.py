"""The chunked form of state space duality: matrix products for all heads of a group at once, one state a chunk.

With d_t the decay of a head from its chunk's begin through token t, and S the state before the chunk,

    y_t = (c_t . b_t) x_t + d_t (sum_{s<t} (c_t . b_s) x_s / d_s + S c_t),    S' = d_L (S + sum_s (x_s / d_s) b_s^T)

so that the heads of a group differ in the factors d alone: they share one matrix of scores, and no pair of tokens needs
a decay of its own. This divides by d, which is safe while d does not vanish. A head whose log decays in a chunk add up
to less than LOWEST_LOG_DECAY, or to less than MEAN_LOG_DECAY a token, is hard there: its x / d is zero here, and what
that leaves out is added by ssd_pairs, exact at every decay. So nothing is ever clamped.

Shapes: B batch, T tokens, H heads, P head width, N state width, G groups, R = H / G heads of a group, L tokens of a
chunk, n = ceil(T / L) chunks of a sequence, M = B n G of all sequences and groups.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.ops import ssd_pairs
from assay.ops.execution import equal_chunks, extra_work
from assay.ops.opaque import Differentiable, shapes_only
from assay.ops.ssd_native import SSD_NATIVE

_LOG2_E = math.log2(math.e)
LOWEST_LOG_DECAY = -60.0
"""exp(60) is far inside float32 and bfloat16."""
MEAN_LOG_DECAY = -1.25
"""The gradient of a decay is a difference of two sums, of which it keeps the share exp(-1.25) on average or more: less
than a digit is lost, of which bfloat16 has but two."""


class Decays(NamedTuple):
    """`since` the chunk's begin through each token and `inverse`, 1 / since or 0 where hard, [M, L, R, 1]; `hard`
    [M, R] on the CPU.
    """

    since: Tensor
    inverse: Tensor
    hard: Tensor

    @classmethod
    def of(cls, log_decay: Tensor) -> "Decays":
        """From log decays [M, L, R], summed in float64. Powers of 2: MKL's exp takes fifty times as long where it
        underflows.
        """
        sums = log_decay.double().cumsum(1)
        hard = sums[:, -1] < max(LOWEST_LOG_DECAY, MEAN_LOG_DECAY * sums.shape[1])
        since = sums.mul_(_LOG2_E).exp2_().unsqueeze(3)
        inverse = since.reciprocal().masked_fill_(hard[:, None, :, None], 0)
        return cls(since.to(log_decay.dtype), inverse.to(log_decay.dtype), hard.cpu())

    def whole(self, P: int) -> Tensor:
        """The decay of each chunk, [M, 1, R P], as wide as states: products with short rows take twice as long."""
        return self.since[:, -1:].expand(-1, -1, -1, P).flatten(2)

    def hard_heads(self) -> tuple[Tensor, Tensor]:
        """The indices in M and R of what is hard."""
        if shapes_only(self.hard):
            none = self.since.new_empty(0, dtype=torch.long)
            return none, none
        of_chunks, of_heads = self.hard.nonzero().to(self.since.device).unbind(1)
        return of_chunks, of_heads


def _forward(
    x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor, longest: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """x [B, T, H, P], log_decay [B, T, H], b and c [B, T, G, N], state [B, H, P, N] -> y, state.

    Products are in the type of b and c; the others share one of at least float32. `left` is [scores | c], the scores of
    earlier tokens alone, and `right` [x / d ; S]. What a token gives itself keeps out of their product, `seen`, for no
    decay acts on it.
    """
    B, T, H, P = x.shape
    G, N = b.shape[2:]
    L, R = equal_chunks(T, longest)[1], H // G
    logs, rows = _cut(log_decay, L, G).squeeze(3), _cut(x, L, G)
    keys, reads = _cut(b, L, G).squeeze(2), _cut(c, L, G).squeeze(2)
    M = len(rows)
    decays = Decays.of(logs)

    left, right = b.new_empty(M, L, L + N), b.new_empty(M, L + N, R * P)
    scores = reads @ keys.mT
    own = scores.diagonal(dim1=1, dim2=2)[..., None, None].to(x.dtype, copy=True)
    left[:, :, :L] = scores.tril_(-1)
    left[:, :, L:] = reads
    right[:, :L].view(M, L, R, P).copy_(rows * decays.inverse)
    whole = decays.whole(P)
    added = (keys.mT @ right[:, :L]) * whole
    chunks, heads = decays.hard_heads()
    if len(chunks):
        with extra_work():
            y_hard, added_hard = ssd_pairs.from_nothing(_hard(rows, logs, keys, reads, chunks, heads))
        added.view(M, N, R, P)[chunks, :, heads] = added_hard
    last = _pass_states(right[:, L:], added, whole, _grouped(state, G))
    seen = left @ right
    y = (seen.view(M, L, R, P) * decays.since).addcmul_(rows, own)
    if len(chunks):
        y[chunks, :, heads] += y_hard
    return (_joined(y, B, T), _ungrouped(last, P)), (left, right, seen, own, *decays)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], longest: int) -> tuple[Tensor, ...]:
    """Through the states first, then within the chunks."""
    x, log_decay, b, last, left, right, seen, own, *rest = saved
    decays = Decays(*rest)
    B, T, H, P = x.shape
    G, N = b.shape[2:]
    L, R = equal_chunks(T, longest)[1], H // G
    dy, d_last = _cut(gradients[0], L, G), _grouped(gradients[1], G)
    keys, reads = _cut(b, L, G).squeeze(2), left[:, :, L:]
    M = len(dy)

    dy_since = dy * decays.since
    scaled = dy_since.to(right.dtype).view(M, L, R * P)
    d_left, d_right = scaled @ right.mT, left.mT @ scaled
    whole = decays.whole(P)
    d_ends, d_state = _pass_gradients(d_right[:, L:], whole, d_last)
    d_added = (d_ends * whole).to(right.dtype)
    d_scaled_x = torch.baddbmm(d_right[:, :L], keys, d_added)
    d_scores = d_left[:, :, :L].tril()  # on the diagonal, since / since is 1: the gradient of what a token gives itself
    dc = torch.baddbmm(d_left[:, :, L:], d_scores, keys)
    db = torch.baddbmm(right[:, :L] @ d_added.mT, d_scores.mT, reads)
    dx = d_scaled_x.view(M, L, R, P) * decays.inverse

    d_sums = dy_since.mul_(seen.view(M, L, R, P)).addcmul_(dx, _cut(x, L, G), value=-1).sum(3)
    dx.addcmul_(dy, own)
    d_sums[:, -1] += _end_products(d_ends, right[:, L:], _grouped(last, G)).view(M, R, P).sum(2)
    d_logs = d_sums.flip(1).cumsum(1).flip(1)

    chunks, heads = decays.hard_heads()
    if len(chunks):
        logs = _cut(log_decay, L, G).squeeze(3)
        hard = _hard(_cut(x, L, G), logs, keys, reads, chunks, heads)
        at = (chunks, slice(None), heads)
        starts, ends = (y.view(M, N, R, P)[at].to(x.dtype) for y in (right[:, L:], d_ends))
        found = ssd_pairs.gradients(hard, starts, dy[at], ends)
        dx[at] += found.x
        d_logs[at] = found.log_decay
        db.index_add_(0, chunks, found.b.to(db.dtype))
        dc.index_add_(0, chunks, found.c.to(dc.dtype))
    db, dc = (_joined(d.unsqueeze(2), B, T) for d in (db, dc))
    return _joined(dx, B, T), _joined(d_logs.unsqueeze(3), B, T).squeeze(3), db, dc, _ungrouped(d_state, P)


chunked = Differentiable("ssd_chunked", _forward, _gradient, outputs=2, keeps=(0, 1, 2, 6), option="int")


def _scaled_forward(
    x: Tensor, scale: Tensor, skip: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, state: Tensor, longest: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The same of x scale, with skip x added to y: x in any type, scale as log_decay, skip [H] of its type."""
    wide = x.to(scale.dtype)
    (y, last), rest = _forward(wide * scale[..., None], log_decay, b, c, state, longest)
    return (torch.addcmul(y, wide, skip[:, None]), last), rest


def _scaled_gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], longest: int) -> tuple[Tensor, ...]:
    x, scale, skip, *rest = saved
    wide, dy = x.to(scale.dtype), gradients[0]
    d_scaled, *found = _gradient(gradients, (wide * scale[..., None], *rest), longest)
    dx = (d_scaled * scale[..., None] + dy * skip[:, None]).to(x.dtype)
    return dx, (d_scaled * wide).sum(3), (dy * wide).sum((0, 1, 3)), *found


scaled = Differentiable(
    "ssd_scaled",
    _scaled_forward,
    _scaled_gradient,
    outputs=2,
    keeps=(0, 1, 2, 3, 4, 8),
    option="int",
    native=SSD_NATIVE,
)


def _cut(x: Tensor, L: int, G: int) -> Tensor:
    """[B, T, H, ...] -> [M, L, R, ...], one axis at least, zeros after the end: tokens that neither write nor decay."""
    B, T, H = x.shape[:3]
    width = x.shape[3] if x.dim() == 4 else 1
    n = -(-T // L)
    if n * L > T:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, n * L - T))
    return x.reshape(B, n, L, G, H // G, width).transpose(2, 3).reshape(B * n * G, L, H // G, width)


def _joined(x: Tensor, B: int, T: int) -> Tensor:
    """[M, L, R, P] -> [B, T, H, P]."""
    M, L, R, P = x.shape
    n = -(-T // L)
    x = x.reshape(B, n, M // (B * n), L, R, P).transpose(2, 3).reshape(B, n * L, -1, P)
    return x if n * L == T else x[:, :T].contiguous()


def _grouped(state: Tensor, G: int) -> Tensor:
    """[B, H, P, N] -> [B, G, N, R P]."""
    B, H, P, N = state.shape
    return state.view(B, G, H // G, P, N).permute(0, 1, 4, 2, 3).reshape(B, G, N, -1)


def _ungrouped(state: Tensor, P: int) -> Tensor:
    """[B, G, N, R P] -> [B, H, P, N]."""
    B, G, N, _ = state.shape
    return state.view(B, G, N, -1, P).permute(0, 1, 3, 4, 2).reshape(B, -1, P, N)


def _hard(x: Tensor, logs: Tensor, b: Tensor, c: Tensor, chunks: Tensor, heads: Tensor) -> ssd_pairs.Chunks:
    """What is hard, from x [M, L, R, P], log decays [M, L, R] and b and c [M, L, N]."""
    return ssd_pairs.Chunks(x[chunks, :, heads], logs[chunks, :, heads], *(y[chunks].to(x.dtype) for y in (b, c)))


def _pass_states(starts: Tensor, added: Tensor, whole: Tensor, state: Tensor) -> Tensor:
    """Fill `starts` [M, N, R P], the state before each chunk, and return the one after the last, [B, G, N, R P].

    `added` as starts is what each chunk adds, `whole` [M, 1, R P] its whole decay, `state` as the result.
    """
    to, more, decay = (_by_chunk(y, state) for y in (starts, added, whole))
    for i in range(to.shape[1]):
        to[:, i] = state
        state = torch.addcmul(more[:, i], state, decay[:, i])
    return state


def _pass_gradients(d_starts: Tensor, whole: Tensor, d_last: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients at the state after each chunk, [M, N, R P], and at the first, [B, G, N, R P], from those at the
    state before each chunk that come through y.
    """
    d_ends = torch.empty(d_starts.shape, dtype=d_last.dtype, device=d_last.device)
    from_y, to, decay = (_by_chunk(y, d_last) for y in (d_starts, d_ends, whole))
    for i in reversed(range(to.shape[1])):
        to[:, i] = d_last
        d_last = torch.addcmul(from_y[:, i].to(d_last.dtype), d_last, decay[:, i])
    return d_ends, d_last


def _end_products(d_ends: Tensor, starts: Tensor, last: Tensor) -> Tensor:
    """The state after each chunk times its gradient `d_ends`, summed over N: [M, R P]."""
    d_ends, starts = _by_chunk(d_ends, last), _by_chunk(starts, last)
    inner = (d_ends[:, :-1] * starts[:, 1:]).sum(3)
    return torch.cat((inner, (d_ends[:, -1:] * last.unsqueeze(1)).sum(3)), 1).flatten(0, 2)


def _by_chunk(x: Tensor, state: Tensor) -> Tensor:
    """A view [B, n, G, ...] of [M, ...], with B and G those of `state`."""
    return x.view(state.shape[0], -1, state.shape[1], *x.shape[1:])
