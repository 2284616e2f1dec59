"""Softmax attention in blocks of queries, each against the keys that it may see and no others; its gradient by hand.

A block forms its scores as one product, masks their edges, takes the softmax (within, in float32 or wider) and forms
the weighted values as a second product. So half of the products of a causal square are left out, and memory is that of
one block.

Shapes: B batch, T queries, S >= T keys (the last T of them stand at the queries' places), H heads, G heads of keys and
values (H is a multiple of G), K key width, V value width.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.attention_native import ATTENTION_NATIVE
from assay.ops.opaque import Differentiable

Drop = Callable[[Tensor], Tensor]
"""Dropout on attention weights, as a function: it holds its own probability and draws from its own generator."""

KEPT_QUERIES = 512
"""Up to so many queries the weights are kept for the gradient; with more, where they would be most of what a training
step holds, they are formed a second time."""


class Block(NamedTuple):
    """Queries `start` ... `end` - 1 and the keys `first` ... `last` - 1 that at least one of them sees."""

    start: int
    end: int
    first: int
    last: int


def blocks(queries: int, keys: int, length: int, window: int | None) -> Iterator[Block]:
    """The blocks of at most `length` queries; a query sees the keys up to its own, or the last `window` of those."""
    before = keys - queries
    for start in range(0, queries, length):
        end = min(start + length, queries)
        yield Block(start, end, 0 if window is None else max(0, before + start - window + 1), before + end)


def attention_in_blocks(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    length: int,
    window: int | None = None,
) -> Float[Tensor, "B T H V"]:
    """softmax(q k^T / sqrt(K)) v, where query i sees the keys 0 ... S - T + i, or the last `window` of them.

    Scores and weights are rounded to the type of q between products; what is in between is in float32 or wider.
    """
    keep = torch.is_grad_enabled() and q.shape[1] <= KEPT_QUERIES
    (y,) = _attention(q, k, v, option=([length, window or 0, keep],))
    return y


def dropped_attention_in_blocks(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    length: int,
    window: int | None,
    drop: Drop,
) -> Float[Tensor, "B T H V"]:
    """The same with weights that `drop` has multiplied by a mask of zeros and one other number.

    Up to KEPT_QUERIES queries all weights are kept for the gradient; with more only the masks are, a byte a weight.
    """
    keys, values = _by_group(k), _by_group(v)
    if q.shape[1] > KEPT_QUERIES:
        rows = q.shape[2] // k.shape[2]
        shapes = [
            (len(keys), rows * (block.end - block.start), block.last - block.first)
            for block in blocks(q.shape[1], k.shape[1], length, window)
        ]
        largest, masks = [], []
        for shape in shapes:
            mask = drop(v.new_ones(shape))
            largest.append(mask.amax())
            masks.append(mask != 0)
        (y,) = _attention(q, k, v, torch.stack(largest).amax(), *masks, option=([length, window or 0, False],))
        return y
    parts = []
    for block in blocks(q.shape[1], k.shape[1], length, window):
        scores = _scores(_queries(q, block, k.shape[2]), keys, block, window or 0)
        weights = drop(scores.softmax(-1).to(v.dtype))
        parts.append(_by_token(weights @ values[:, block.first : block.last], block, len(q)))
    return torch.cat(parts, 1)


def _forward(q: Tensor, k: Tensor, v: Tensor, *more: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs, and the weights of each block [B G, r L, S] where they are kept.

    `more` is the option, after a factor and the masks of all blocks where weights are dropped; these are kept then.
    """
    *dropped, (length, window, keep) = more
    keys, values = _by_group(k), _by_group(v)
    y = q.new_empty(*q.shape[:3], v.shape[-1])
    kept = list(dropped)
    for index, block in enumerate(blocks(q.shape[1], k.shape[1], length, window or None)):
        weights = _weights(_queries(q, block, k.shape[2]), keys, block, window)
        if dropped:
            weights = _masked(weights, dropped, index)
        rows = weights @ values[:, block.first : block.last]
        y[:, block.start : block.end] = _by_token(rows, block, len(q))
        if keep:
            kept.append(weights)
    return (y,), tuple(kept)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], option: list[int]) -> tuple[Tensor, ...]:
    """The gradients at q, k and v; those of keys and values are summed over the blocks in float32 or wider."""
    (dy,), (q, k, v, *kept) = gradients, saved
    length, window, keep = option
    groups, scale = k.shape[2], 1 / math.sqrt(q.shape[-1])
    keys, values = _by_group(k), _by_group(v)
    dq = torch.empty_like(q, memory_format=torch.contiguous_format)
    wide = torch.promote_types(q.dtype, torch.float32)
    dk, dv = torch.zeros_like(keys, dtype=wide), torch.zeros_like(values, dtype=wide)
    for index, block in enumerate(blocks(q.shape[1], k.shape[1], length, window or None)):
        seen = slice(block.first, block.last)
        queries, slopes = _queries(q, block, groups), _queries(dy, block, groups)
        weights = kept[index] if keep else _weights(queries, keys, block, window)
        dropped = kept and not keep
        dv[:, seen] += (_masked(weights, kept, index) if dropped else weights).mT @ slopes
        dscores = slopes @ values[:, seen].mT
        if dropped:
            dscores = _masked(dscores, kept, index)
        torch.ops.aten._softmax_backward_data.out(dscores, weights, -1, weights.dtype, grad_input=dscores)
        rows = _scaled_product(dscores, keys[:, seen], scale)
        dq[:, block.start : block.end] = _by_token(rows, block, len(q))
        dk[:, seen] += _scaled_product(dscores.mT, queries, scale)
    return dq, *(_as_given(x, like) for x, like in ((dk, k), (dv, v)))


_attention = Differentiable(
    "attention_in_blocks",
    _forward,
    _gradient,
    outputs=1,
    keeps=(0, 1, 2),
    option="int[]",
    native=ATTENTION_NATIVE,
)


def _masked(x: Tensor, dropped: Sequence[Tensor], index: int) -> Tensor:
    """x times the factor where the mask of the block `index` is."""
    return x * (dropped[1 + index] * dropped[0])


def _weights(queries: Tensor, keys: Tensor, block: Block, window: int) -> Tensor:
    """softmax(q k^T / sqrt(K)) of a block, zero where a query must not look: [B G, r L, last - first]."""
    scores = _scores(queries, keys, block, window)
    return torch.softmax(scores, -1, out=scores)


def _scores(queries: Tensor, keys: Tensor, block: Block, window: int) -> Tensor:
    """q k^T / sqrt(K) of a block, minus infinity where a query must not look: [B G, r L, last - first]."""
    scores = _scaled_product(queries, keys[:, block.first : block.last].mT, 1 / math.sqrt(queries.shape[-1]))
    length = block.end - block.start
    by_query = scores.unflatten(1, (-1, length))
    # Added to the two edges alone, which is faster than a mask over all scores.
    hidden = scores.new_full((length, length), -math.inf)
    by_query[..., -length:] += hidden.triu(1)
    # Relative to the first key, query i sees keys from i - ahead on.
    ahead = window - 1 - (block.last - length - block.first) if window else length
    if ahead < length - 1:
        by_query[..., :length] += hidden.tril(-1 - ahead)
    return scores


def _scaled_product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale a b, rounded once."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _by_group(x: Tensor) -> Tensor:
    """[B, S, G, K] -> [B G, S, K]."""
    return x.transpose(1, 2).flatten(0, 1)


def _queries(q: Tensor, block: Block, groups: int) -> Tensor:
    """The queries of a block, those of all heads of a group below each other: [B, T, G r, K] -> [B G, r L, K]."""
    rows: Tensor = q[:, block.start : block.end].unflatten(2, (groups, -1))
    return rows.permute(0, 2, 3, 1, 4).flatten(2, 3).flatten(0, 1)


def _by_token(rows: Tensor, block: Block, batch: int) -> Tensor:
    """Undo `_queries`: [B G, r L, V] -> [B, L, G r, V]."""
    groups: Tensor = rows.unflatten(1, (-1, block.end - block.start)).unflatten(0, (batch, -1))
    return groups.flatten(1, 2).transpose(1, 2)


def _as_given(x: Tensor, like: Tensor) -> Tensor:
    """[B G, S, K] -> [B, S, G, K] in the type of `like`."""
    rows: Tensor = x.unflatten(0, (like.shape[0], -1))
    return rows.transpose(1, 2).to(like.dtype)
