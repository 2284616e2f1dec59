"""What the chunked forms of RWKV-6 and RWKV-7 share: cutting into chunks, decays per channel, scores at every decay.

With w the decays of a chunk, each as long as K, rows r and keys k of a chunk give

    scores[t, s] = sum_K r_t k_s prod_{s<i<t} w_i  for s < t, else 0
    before[t] = r_t prod_{i<t} w_i        after[s] = k_s prod_{i>s} w_i

The factored form, each recurrence's own, is fast: it divides k by the decays since the chunk began, which is safe while
these do not vanish. Where their logarithms add up to less than LOWEST_LOG_DECAY, `halved` takes over, which is exact at
every decay. It splits each chunk in two, the halves in two, and so on. A pair is met at the one split that parts it,
where its product of decays is (from the split to t) times (from s to the split): two factors that never exceed 1, built
by multiplying up from single tokens. Nothing can overflow, what underflows is zero in the recurrence too, and no two
large sums are subtracted. So nothing is ever clamped.

Shapes: B batch, T tokens, H heads, K key width, V value width, C tokens in a chunk (a power of two), n = ceil(T / C),
M = n B H chunks of all sequences and heads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.errors import RequestError
from assay.ops.opaque import shapes_only

LOWEST_LOG_DECAY = -40.0
"""exp(40) is far inside float32; C = 16 decays that add up to this average exp(-2.5), so that the gradient of a
decay, a difference of two sums of which it keeps the share exp(-2.5) or more, loses one digit and not all."""

_SMALL = 4
"""Half-blocks up to this length multiply element by element: matrices this small cost more as matrix products."""


def refuse_length(chunk_length: int) -> None:
    """Raise a RequestError where chunks of this length cannot be halved down to single tokens."""
    if chunk_length < 1 or chunk_length & (chunk_length - 1):
        raise RequestError(f"chunk_length: {chunk_length} given, a power of two is needed, as 16, 32 or 64")


def in_one_type(tensors: Sequence[Tensor], v: Tensor, state: Tensor | None) -> list[Tensor]:
    """`tensors`, whose first is [B, T, H, K], and the state, zero where there is none: float32, or wider where v is."""
    dtype = torch.promote_types(v.dtype, torch.float32)
    if state is None:
        B, _, H, K = tensors[0].shape
        state = v.new_zeros(B, H, K, v.shape[-1], dtype=dtype)
    return [x.to(dtype) for x in (*tensors, state)]


def by_chunk(parts: Sequence[Tensor], C: int, room: int = 0) -> Tensor:
    """Copies of tensors [B, T, H, K] as [M, len(parts) C + room, K], part by part in each chunk.

    Zeros stand after the last token; the room is left unwritten.
    """
    B, T, H, K = parts[0].shape
    n = -(-T // C)
    out = parts[0].new_empty(n, B, H, len(parts) * C + room, K)
    for i, x in enumerate(parts):
        padded = F.pad(x, (0, 0, 0, 0, 0, n * C - T)) if n * C > T else x
        out[:, :, :, i * C : (i + 1) * C] = padded.reshape(B, n, C, H, K).permute(1, 0, 3, 2, 4)
    return out.view(n * B * H, len(parts) * C + room, K)


def from_chunks(x: Tensor, B: int, T: int) -> Tensor:
    """[M, C, V] -> [B, T, H, V]."""
    M, C, V = x.shape
    n = -(-T // C)
    return x.view(n, B, M // (n * B), C, V).permute(1, 0, 3, 2, 4).reshape(B, n * C, -1, V)[:, :T]


class Decays(NamedTuple):
    """`since` [M, C, K], the decays from the chunk's begin through each token; `hard` [M], on the CPU: to be halved."""

    since: Tensor
    hard: Tensor

    @classmethod
    def of(cls, log_decay: Tensor) -> "Decays":
        """From log decays [M, C, K]."""
        sums = log_decay.cumsum(1)
        hard = (sums[:, -1].amin(-1) < LOWEST_LOG_DECAY).cpu()
        return cls(sums.exp_(), hard)

    @property
    def total(self) -> Tensor:
        """The decay of the whole chunk, [M, K]."""
        return self.since[:, -1]

    def extreme(self) -> Tensor:
        """The indices of the hard chunks."""
        if shapes_only(self.hard):
            return self.since.new_empty(0, dtype=torch.long)
        return self.hard.nonzero().squeeze(1).to(self.since.device)


def halved(r: Tensor, k: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exact (scores, before, after) from r, k and decays [M, C, K]. Inside, tensors lie as [C, M, K]: long rows."""
    M, C, _ = r.shape
    rows, keys, decay = (x.transpose(0, 1).contiguous() for x in (r, k, decay))
    scores = r.new_zeros(M, C, C)
    for total in _block_totals(decay)[:-1]:
        half = C // len(total)
        later, earlier = _parted(rows, keys, half)
        _write_scores(_corners(scores, half), later, earlier)
        _scale(later, earlier, total)
    return scores, rows.transpose(0, 1), keys.transpose(0, 1)


def halved_gradients(
    r: Tensor, k: Tensor, decay: Tensor, dscores: Tensor, dbefore: Tensor, dafter: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients at r, k and the log decays, each [M, C, K]; the scaled halves are computed again, not kept."""
    C = r.shape[1]
    rows, keys, decay, drows, dkeys = (x.transpose(0, 1).contiguous() for x in (r, k, decay, dbefore, dafter))
    levels = []
    for total in _block_totals(decay)[:-1]:
        later, earlier = _parted(rows, keys, C // len(total))
        levels.append((total, later.clone(), earlier.clone()))
        _scale(later, earlier, total)
    dlog = torch.zeros_like(decay[:1])
    for total, later, earlier in reversed(levels):
        dlater, dearlier = _parted(drows, dkeys, later.shape[1])
        _scale(dlater, dearlier, total)
        # The forward scaled rows of the later half by the total decay of the earlier half, so their share of the
        # gradient belongs to the decays of the earlier half; and the other way round.
        dlog = torch.stack((dlog + (later * dlater).sum(1), dlog + (earlier * dearlier).sum(1)), 1).flatten(0, 1)
        _add_score_gradients(_corners(dscores, later.shape[1]), later, earlier, dlater, dearlier)
    return drows.transpose(0, 1), dkeys.transpose(0, 1), dlog.transpose(0, 1)


def _block_totals(decay: Tensor) -> list[Tensor]:
    """Products of the decays [C, M, K] over blocks of 1, 2, 4, ... C tokens, each [number of blocks, M, K]."""
    totals = [decay]
    while len(totals[-1]) > 1:
        totals.append(totals[-1][0::2] * totals[-1][1::2])
    return totals


def _parted(rows: Tensor, keys: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Views [blocks, half, M, K]: the rows of the later half of each block, the keys of the earlier half."""
    shape = (-1, 2, half, *rows.shape[1:])
    return rows.view(shape)[:, 1], keys.view(shape)[:, 0]


def _scale(later: Tensor, earlier: Tensor, total: Tensor) -> None:
    """Let the halves reach across each other: multiply, in place, by the whole decay of the other half."""
    later.mul_(total[0::2].unsqueeze(1))
    earlier.mul_(total[1::2].unsqueeze(1))


def _corners(scores: Tensor, half: int) -> Tensor:
    """A view [blocks, M, half, half] of scores [M, C, C]: later against earlier half, block by block."""
    M, C, _ = scores.shape
    tiles = scores.view(M, C // (2 * half), 2 * half, C // (2 * half), 2 * half)
    return tiles.diagonal(dim1=1, dim2=3)[:, half:, :half].permute(3, 0, 1, 2)


def _write_scores(corners: Tensor, later: Tensor, earlier: Tensor) -> None:
    """corners = later earlier^T over K."""
    if later.shape[1] <= _SMALL:
        corners.permute(0, 2, 3, 1).copy_((later.unsqueeze(2) * earlier.unsqueeze(1)).sum(-1))
        return
    for corner, rows, keys in zip(corners, later.transpose(1, 2), earlier.permute(0, 2, 3, 1), strict=True):
        corner.copy_(rows @ keys)


def _add_score_gradients(dcorners: Tensor, later: Tensor, earlier: Tensor, dlater: Tensor, dearlier: Tensor) -> None:
    """dlater += dcorners earlier, dearlier += dcorners^T later, in place."""
    if later.shape[1] <= _SMALL:
        d = dcorners.permute(0, 2, 3, 1).contiguous().unsqueeze(-1)
        for to_row, from_key in zip(d.unbind(2), earlier.split(1, 1), strict=True):
            dlater.addcmul_(to_row, from_key)
        for to_key, from_row in zip(d.unbind(1), later.split(1, 1), strict=True):
            dearlier.addcmul_(to_key, from_row)
        return
    for block, d in enumerate(dcorners):
        dlater[block].add_((d @ earlier[block].transpose(0, 1)).transpose(0, 1))
        dearlier[block].add_((d.mT @ later[block].transpose(0, 1)).transpose(0, 1))
