"""The RWKV-6 recurrence: the loop that defines it, and a chunked form that is exact at every decay.

    y_t = r_t^T (S_{t-1} + diag(u) k_t v_t^T),   S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T

(Peng et al. 2024, "Eagle and Finch", arXiv 2404.05892, section 4.)

Shapes: B batch, T tokens of this call, H heads, K key width, V value width. Inside the chunked form, C is the
chunk length, n = ceil(T / C) and M = n B H counts the chunks of all sequences and heads.

The chunked form needs, for each pair s < t of a chunk, the product of the decays strictly between s and t. It splits
every chunk in two, the halves in two, and so on. A pair is met at the one split that parts it, where the product is
(decays from the split to t) times (decays from s to the split): two factors that never exceed 1, built by
multiplying decays up from single tokens. Nothing can overflow, what underflows is zero in the recurrence too,
and neither values nor gradients subtract two sums of logarithms; so there is no clamp and no case to tell apart.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from assay.errors import RequestError
from assay.ops.execution import Execution, note_form

_SMALL = 4
"""Half-blocks up to this length multiply element by element: matrices this small cost more as matrix products."""


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
    runs as one step of the loop and is recorded as such. Chunks are the largest power of two that exceeds neither
    the execution's chunk length nor max(16, K): longer ones spend more on scores than they save on states.
    """
    if execution.form == "loop" or r.shape[1] == 1:
        note_form("wkv6", "loop")
        return wkv6_loop(r, k, v, log_decay, bonus, state)
    note_form("wkv6", "chunked")
    longest = min(execution.chunk_length, max(16, r.shape[-1]))
    return wkv6_chunked(r, k, v, log_decay, bonus, state, 1 << longest.bit_length() - 1)


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
        r, k, v, log_decay, bonus, state = _operands(r, k, v, log_decay, bonus, state)
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
    if chunk_length < 1 or chunk_length & (chunk_length - 1):
        raise RequestError(f"chunk_length: {chunk_length} given, a power of two is needed, as 16, 32 or 64")
    with torch.autocast(r.device.type, enabled=False):
        operands = _operands(r, k, v, log_decay, bonus, state)
        chunk_length = min(chunk_length, 1 << (r.shape[1] - 1).bit_length())
        y, state = _Chunked.apply(*operands, chunk_length)
        return y.to(v.dtype), state


def _operands(
    r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All of them in the type of the recurrence, the state present."""
    dtype = torch.promote_types(v.dtype, torch.float32)
    if state is None:
        B, _, H, K = r.shape
        state = v.new_zeros(B, H, K, v.shape[-1], dtype=dtype)
    return r.to(dtype), k.to(dtype), v.to(dtype), log_decay.to(dtype), bonus.to(dtype), state.to(dtype)


class _Chunked(torch.autograd.Function):
    """The chunked form with its gradient by hand, which recomputes the scaled r and k instead of keeping them.

    Per chunk, y = [scores | r before] [v ; S_start], where "r before" is r times the decays since the chunk began,
    and S_end = total decay * S_start + (k after)^T v, where "k after" is k times the decays until the chunk ends.
    r, k and decays lie as [C, M, K], position first: what scales a half-block then runs over long rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor,
        bonus: Tensor,
        state: Tensor,
        C: int,
    ) -> tuple[Tensor, Tensor]:
        B, T, H, K = r.shape
        rows, keys, decay = _by_position(r, C), _by_position(k, C), _by_position(log_decay, C).exp_()
        M = decay.shape[1]
        left = r.new_zeros(M, C, C + K)
        right = _by_chunk(v, C, K)
        own = (rows * keys).view(-1, H, K).mul_(bonus).sum(-1)
        left.diagonal(dim1=1, dim2=2).copy_(own.view(C, M).mT)
        totals = _block_totals(decay)
        for total in totals[:-1]:
            half = C // len(total)
            later, earlier = _parted(rows, keys, half)
            _write_scores(_corners(left, half), later, earlier)
            _scale(later, earlier, total)
        left[:, :, C:] = rows.transpose(0, 1)
        added = keys.permute(1, 2, 0) @ right[:, :C]
        final = _pass_states(right[:, C:], added, totals[-1].view(M, K, 1), state)
        ctx.save_for_backward(r, k, bonus, decay, left, right)
        return _from_chunks(left @ right, B, T), final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dfinal: Tensor) -> tuple[Tensor | None, ...]:
        r, k, bonus, decay, left, right = ctx.saved_tensors
        B, T, H, _ = r.shape
        C, M, K = decay.shape
        v, start = right[:, :C], right[:, C:]
        with torch.autocast(r.device.type, enabled=False):
            dy = _by_chunk(dy, C)
            dleft = dy @ right.mT
            dright = left.mT @ dy
            rows, keys = _by_position(r, C), _by_position(k, C)
            drows_own, dkeys_own, dbonus = _bonus_gradients(dleft, rows, keys, bonus)
            totals = _block_totals(decay)
            levels = []
            for total in totals[:-1]:
                later, earlier = _parted(rows, keys, C // len(total))
                levels.append((total, later.clone(), earlier.clone()))
                _scale(later, earlier, total)
            dend, dstate = _pass_gradients(dright[:, C:], totals[-1].view(M, K, 1), dfinal)
            dv = torch.baddbmm(dright[:, :C], keys.transpose(0, 1), dend)
            drows = dleft[:, :, C:].transpose(0, 1).contiguous()
            dkeys = (v @ dend.mT).transpose(0, 1).contiguous()
            dlog = (start * dend).sum(-1).mul_(totals[-1][0]).unsqueeze(0)
            for total, later, earlier in reversed(levels):
                dlater, dearlier = _parted(drows, dkeys, later.shape[1])
                _scale(dlater, dearlier, total)
                dlog = _spread(dlog, (later * dlater).sum(1), (earlier * dearlier).sum(1))
                _add_score_gradients(_corners(dleft, later.shape[1]), later, earlier, dlater, dearlier)
            dr, dk = drows.add_(drows_own), dkeys.add_(dkeys_own)
            dr, dk, dlog = (_from_positions(x, B, T, H) for x in (dr, dk, dlog))
            return dr, dk, _from_chunks(dv, B, T), dlog, dbonus, dstate, None


def _by_position(x: Tensor, C: int) -> Tensor:
    """[B, T, H, K] -> a copy [C, n B H, K], zeros after the end."""
    B, T, H, K = x.shape
    if T % C:
        x = F.pad(x, (0, 0, 0, 0, 0, -T % C))
    x = x.reshape(B, -1, C, H, K).permute(2, 1, 0, 3, 4)
    return x.clone(memory_format=torch.contiguous_format).view(C, -1, K)


def _from_positions(x: Tensor, B: int, T: int, H: int) -> Tensor:
    """[C, n B H, K] -> [B, T, H, K]."""
    C, _, K = x.shape
    return x.view(C, -1, B, H, K).permute(2, 1, 0, 3, 4).reshape(B, -1, H, K)[:, :T]


def _by_chunk(x: Tensor, C: int, room: int = 0) -> Tensor:
    """[B, T, H, V] -> a copy [n B H, C + room, V], zeros after the end, the room left unwritten."""
    B, T, H, V = x.shape
    if T % C:
        x = F.pad(x, (0, 0, 0, 0, 0, -T % C))
    x = x.reshape(B, -1, C, H, V).permute(1, 0, 3, 2, 4)
    out = x.new_empty(*x.shape[:3], C + room, V)
    out[:, :, :, :C] = x
    return out.view(-1, C + room, V)


def _from_chunks(x: Tensor, B: int, T: int) -> Tensor:
    """[n B H, C, V] -> [B, T, H, V]."""
    M, C, V = x.shape
    n = -(-T // C)
    return x.view(n, B, M // (n * B), C, V).permute(1, 0, 3, 2, 4).reshape(B, n * C, -1, V)[:, :T]


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


def _spread(dlog: Tensor, to_earlier: Tensor, to_later: Tensor) -> Tensor:
    """Gradients at the log decays of blocks -> of their halves: what the whole has, plus what each half is owed.

    Rows of the later half were scaled by the earlier half's decay, so that their gradient is owed to the earlier.
    """
    out = dlog.new_empty(2 * len(dlog), *dlog.shape[1:])
    torch.add(dlog, to_earlier, out=out[0::2])
    torch.add(dlog, to_later, out=out[1::2])
    return out


def _corners(scores: Tensor, half: int) -> Tensor:
    """A view [blocks, M, half, half] of scores [M, C, >= C]: later against earlier half, block by block."""
    M, C, _ = scores.shape
    tiles = scores[:, :, :C].view(M, C // (2 * half), 2 * half, C // (2 * half), 2 * half)
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


def _bonus_gradients(dscores: Tensor, rows: Tensor, keys: Tensor, bonus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the diagonal of the scores, (r * u) . k of one token, gives to r, to k [C, M, K] and to u [H, K]."""
    H, K = bonus.shape
    d = dscores.diagonal(dim1=1, dim2=2).mT.contiguous().unsqueeze(-1)
    dbonus = (rows * keys).mul_(d).view(-1, H, K).sum(0)
    scaled = (d.view(-1, H, 1) * bonus).view_as(rows)
    return scaled * keys, scaled.mul_(rows), dbonus


def _pass_states(starts: Tensor, added: Tensor, total: Tensor, state: Tensor) -> Tensor:
    """Fill `starts` [M, K, V], the state before each chunk, and return the one after the last, [B, H, K, V].

    `added` [M, K, V] is what each chunk adds, `total` [M, K, 1] its whole decay.
    """
    final = torch.empty_like(state, memory_format=torch.contiguous_format).flatten(0, 1)
    froms = starts.split(len(final))
    froms[0].copy_(state.flatten(0, 1))
    steps = zip(froms, added.split(len(final)), total.split(len(final)), (*froms[1:], final), strict=True)
    for start, more, decay, end in steps:
        torch.addcmul(more, start, decay, out=end)
    return final.view_as(state)


def _pass_gradients(dstarts: Tensor, total: Tensor, dfinal: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient at the state after each chunk, [M, K, V], and at the first state, [B, H, K, V]."""
    dstate = torch.empty_like(dfinal, memory_format=torch.contiguous_format).flatten(0, 1)
    dends = dstarts.new_empty(dstarts.shape)
    tos = dends.split(len(dstate))
    tos[-1].copy_(dfinal.flatten(0, 1))
    steps = zip(tos, dstarts.split(len(dstate)), total.split(len(dstate)), (dstate, *tos[:-1]), strict=True)
    for dend, dstart, decay, before in reversed(list(steps)):
        torch.addcmul(dstart, dend, decay, out=before)
    return dends, dstate.view_as(dfinal)
