"""Causal softmax attention, over everything or a window: the loops over queries that define it, and the chunked forms.

A chunked form takes what is fastest at its shapes and on its device: blocks of queries (ops/attention_blocks.py) on a
CPU, torch's fused attention elsewhere, for single tokens, and for `FUSED_FROM` tokens and more.

Shapes: B batch, T tokens of this call, S >= T tokens that T queries may see, H heads, K key width, V value width,
G heads of keys and values (H is a multiple of G; key head g serves the H/G query heads from g H/G on: Ainslie et al.
2023, arXiv:2305.13245).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.attention_blocks import Drop, attention_in_blocks, blocks, dropped_attention_in_blocks
from assay.ops.attention_state import AttentionState, Cache, WindowState, appended
from assay.ops.execution import Execution
from assay.ops.forms import Implementation, Op, register
from assay.ops.stored import stored

FUSED_FROM = {torch.float32: 1024, torch.float64: 1024}
"""Queries from which torch's fused attention is the faster one on CPUs (benchmarks/attention.py); never in bfloat16."""


def causal_attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T G V"],
    state: AttentionState | None,
    execution: Execution,
    drop: Drop | None = None,
) -> tuple[Float[Tensor, "B T H V"], AttentionState]:
    """y_t = sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s (Vaswani et al. 2017), over the state's tokens too."""
    if state is not None and isinstance(state.length, Tensor):
        return _attend_in_place(q, k, v, state, state.length)
    state = appended(state, k, v)
    keys, values = state.keys[:, : state.length], state.values[:, : state.length]
    y: Tensor = ATTENTION.run(execution, q.shape[1], q, keys, values, drop)
    return y, state


def sliding_attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T G V"],
    state: WindowState | None,
    window: int,
    execution: Execution,
    drop: Drop | None = None,
) -> tuple[Float[Tensor, "B T H V"], WindowState]:
    """`causal_attention` over the last `window` tokens: the current one and the window - 1 before it.

    The band of Child et al. 2019 (arXiv:1904.10509) and Beltagy et al. 2020 (arXiv:2004.05150), counted as Mistral
    does (Jiang et al. 2023, arXiv:2310.06825). The state never holds more than window - 1 tokens.
    """
    if state is not None and isinstance(state.length, Tensor):
        return _attend_in_place(q, k, v, state, state.length)
    length = k.shape[1] + (0 if state is None else int(state.length))
    if state is not None:
        k, v = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)
    y: Tensor = SLIDING_ATTENTION.run(execution, q.shape[1], q, k, v, window, drop)
    outside = max(0, k.shape[1] - (window - 1))
    return y, WindowState(k[:, outside:].clone(), v[:, outside:].clone(), length)


def causal_attention_loop(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    window: int | None = None,
    drop: Drop | None = None,
) -> Float[Tensor, "B T H V"]:
    """The definition, one query at a time; query i sees keys 0 ... S - T + i, or the last `window` of them."""
    k, v = (_for_each_query_head(x, q.shape[2]) for x in (k, v))
    before = k.shape[1] - q.shape[1]
    outputs = []
    for t in range(q.shape[1]):
        end = before + t + 1
        seen = slice(0 if window is None else max(0, end - window), end)
        scores = torch.einsum("bhk,bshk->bhs", q[:, t], k[:, seen]) / math.sqrt(q.shape[-1])
        weights = scores.softmax(-1) if drop is None else drop(scores.softmax(-1))
        outputs.append(torch.einsum("bhs,bshv->bhv", weights, v[:, seen]))
    return torch.stack(outputs, 1)


def causal_attention_chunked(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    chunk_length: int,
    drop: Drop | None = None,
) -> Float[Tensor, "B T H V"]:
    """Blocks of queries where they are fast, else `causal_attention_fused`."""
    T, S = q.shape[1], k.shape[1]
    fused_from = FUSED_FROM.get(q.dtype, T + 1)
    if T == 1 or not _has_blocks(q.device) or (T == S and fused_from <= T and drop is None):
        return causal_attention_fused(q, k, v, drop)
    if drop is None:
        return attention_in_blocks(q, k, v, _block_length(chunk_length))
    return dropped_attention_in_blocks(q, k, v, _block_length(chunk_length), None, drop)


def causal_attention_fused(
    q: Float[Tensor, "B T H K"], k: Float[Tensor, "B S G K"], v: Float[Tensor, "B S G V"], drop: Drop | None = None
) -> Float[Tensor, "B T H V"]:
    """All queries at once through torch's scaled_dot_product_attention; its weights are formed only to be dropped."""
    T, S = q.shape[1], k.shape[1]
    if T == 1 and drop is None:
        # The query heads of a group stand where queries would: each sees all keys.
        q, k, v = q[:, 0].unflatten(1, (k.shape[2], -1)), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v).flatten(1, 2)[:, None]
    if T == S and drop is None:
        return _attend(q, k, v, None, None, is_causal=True)
    return _attend(q, k, v, None if T == 1 else _band(T, S, S, q.device), drop)


def sliding_attention_chunked(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    window: int,
    chunk_length: int,
    drop: Drop | None = None,
) -> Float[Tensor, "B T H V"]:
    """Blocks of queries one after the other on a CPU, else `sliding_attention_banded`; memory O(T window)."""
    if not _has_blocks(q.device):
        return sliding_attention_banded(q, k, v, window, chunk_length, drop)
    if q.shape[1] == 1:  # its whole state is in the window
        seen = slice(max(0, k.shape[1] - window), None)
        return causal_attention_fused(q, k[:, seen], v[:, seen], drop)
    if drop is None:
        return attention_in_blocks(q, k, v, _block_length(chunk_length), window)
    return dropped_attention_in_blocks(q, k, v, _block_length(chunk_length), window, drop)


def sliding_attention_banded(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B S G K"],
    v: Float[Tensor, "B S G V"],
    window: int,
    chunk_length: int,
    drop: Drop | None = None,
) -> Float[Tensor, "B T H V"]:
    """Blocks of L >= window queries, all at once, each against the L + window - 1 keys it may see: memory O(T window).

    The first block reads what the state holds and is done alone; for all others every key is there.
    """
    B, T, before = *q.shape[:2], k.shape[1] - q.shape[1]
    L, n = _band_blocks(T, window, chunk_length)
    first = before + L
    if first <= window:
        y = causal_attention_fused(q[:, :L], k[:, :first], v[:, :first], drop)
    else:
        y = _attend(q[:, :L], k[:, :first], v[:, :first], _band(L, first, window, q.device), drop)
    if n == 0:
        return y
    missing, span = (n + 1) * L - T, L + window - 1
    queries = F.pad(q[:, L:], (0, 0, 0, 0, 0, missing)).reshape(B * n, L, *q.shape[2:])
    keys, values = (
        F.pad(x[:, first - window + 1 :], (0, 0, 0, 0, 0, missing)).unfold(1, span, L).movedim(-1, 2).flatten(0, 1)
        for x in (k, v)
    )
    rest = _attend(queries, keys, values, _band(L, span, window, q.device), drop)
    return torch.cat([y, rest.reshape(B, n * L, *rest.shape[2:])[:, : T - L]], 1)


def causal_scores(tokens: int, execution: Execution, device: str = "cpu") -> int:
    """Scores a head forms for `tokens` queries without a state on a kind of device, those masked included.

    The loop forms the triangle, blocks some more along its edge; so does the fused form of CPUs, which takes over where
    contexts are long. On other devices the fused form counts as the square.
    """
    if ATTENTION.planned(execution) == "loop":
        return tokens * (tokens + 1) // 2
    if not _has_blocks(torch.device(device)):
        return tokens**2
    return _scores_in_blocks(tokens, execution, None)


def sliding_scores(tokens: int, window: int, execution: Execution, device: str = "cpu") -> int:
    """The same over a window, those padded included."""
    if SLIDING_ATTENTION.planned(execution) == "loop":
        inside = min(tokens, window)
        return inside * (inside + 1) // 2 + (tokens - inside) * window
    if _has_blocks(torch.device(device)):
        return _scores_in_blocks(tokens, execution, window)
    L, n = _band_blocks(tokens, window, execution.chunk_length)
    return L * L + n * L * (L + window - 1)


def single_keys(tokens: int, execution: Execution, window: int | None = None) -> int:
    """Queries that the loop gives one key: their value times its weight of 1 is no matrix product.

    The fused forms multiply whole matrices, so that there are none.
    """
    op = ATTENTION if window is None else SLIDING_ATTENTION
    if op.planned(execution) != "loop":
        return 0
    return tokens if window == 1 else 1


def _has_blocks(device: torch.device) -> bool:
    """Whether blocks one after the other are fast: not where each operation is a launch. Meta counts as a CPU."""
    return device.type in ("cpu", "meta")


def _block_length(chunk_length: int) -> int:
    """Queries of a block: two chunks, as fewer and larger products pay for the scores that they form in vain."""
    return 2 * chunk_length


def _scores_in_blocks(tokens: int, execution: Execution, window: int | None) -> int:
    parts = blocks(tokens, tokens, _block_length(execution.chunk_length), window)
    return sum((part.end - part.start) * (part.last - part.first) for part in parts)


def _band_blocks(tokens: int, window: int, chunk_length: int) -> tuple[int, int]:
    """The length of a block of the band, and how many there are after the first."""
    length = min(tokens, max(window, chunk_length))
    return length, -(-(tokens - length) // length)


def _band(queries: int, keys: int, window: int, device: torch.device) -> Bool[Tensor, "T S"]:
    """True where a query may look: the last query sees the last key, and each one `window` keys."""
    visible = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return visible.tril(keys - queries).triu(keys - queries - window + 1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, drop: Drop | None, *, is_causal: bool = False
) -> Tensor:
    """Attention of [B, T, H, K] over [B, S, G, K] where `mask` [T, S] is True; explicit weights only for `drop`."""
    k, v = (_for_each_query_head(x, q.shape[2]) for x in (k, v))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if drop is None:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
    else:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        y = drop(scores.softmax(-1)) @ v
    return y.transpose(1, 2)


def _for_each_query_head(x: Tensor, n_heads: int) -> Tensor:
    """[B, S, G, K] -> [B, S, H, K]."""
    groups = x.shape[2]
    return x if groups == n_heads else x.repeat_interleave(n_heads // groups, 2)


def _attend_in_place(q: Tensor, k: Tensor, v: Tensor, state: Cache, length: Tensor) -> tuple[Tensor, Cache]:
    """One token against all that the buffers hold with it; the token is written in the place of the oldest."""
    if k.shape[1] != 1:
        raise ValueError(f"{k.shape[1]} tokens given; a state with a length on the device takes one at a time")
    slots = state.keys.shape[1]
    place = (length % slots).reshape(1)
    keys = state.keys.index_copy_(1, place, k)
    values = state.values.index_copy_(1, place, v)
    filled = torch.arange(slots, device=k.device) <= length
    # Sums, which a compiler fuses with what stands around them, where a product would be a call of a library a head.
    # Tokens stand last, side by side, as in the buffer of keys.
    groups = stored(q.squeeze(1).unflatten(1, (k.shape[2], -1)) / math.sqrt(q.shape[-1]))
    scores = (groups[..., None] * keys.permute(0, 2, 3, 1)[:, :, None]).sum(3).masked_fill(~filled, -math.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    y = (weights[..., None] * values.transpose(1, 2)[:, :, None]).sum(3) / weights.sum(-1, keepdim=True)
    return y.flatten(1, 2)[:, None], type(state)(keys, values, length + 1)


ATTENTION = register(
    Op(
        "attention",
        {
            "loop": Implementation(lambda _, q, k, v, drop: causal_attention_loop(q, k, v, drop=drop)),
            "chunked": Implementation(
                lambda execution, q, k, v, drop: causal_attention_chunked(q, k, v, execution.chunk_length, drop)
            ),
        },
    )
)
SLIDING_ATTENTION = register(
    Op(
        "sliding_attention",
        {
            "loop": Implementation(lambda _, *inputs: causal_attention_loop(*inputs)),
            "chunked": Implementation(
                lambda execution, q, k, v, window, drop: sliding_attention_chunked(
                    q, k, v, window, execution.chunk_length, drop
                )
            ),
        },
    )
)
