"""Causal softmax attention: the loop over queries that defines it, and the fused form.

Shapes: B batch, T tokens of this call, S >= T tokens seen so far, H heads, K key width, V value width.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.execution import Execution, note_form


class AttentionState(NamedTuple):
    """Keys and values of the tokens seen: [B, C, H, K] and [B, C, H, V], of which the first `length` are filled.

    C equals `length` for a state that grows. With a capacity, C is larger and a call without gradients writes
    into the buffers, so that the state passed in must not be used again.
    """

    keys: Tensor
    values: Tensor
    length: int


def causal_attention(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    state: AttentionState | None,
    execution: Execution,
) -> tuple[Float[Tensor, "B T H V"], AttentionState]:
    """y_t = sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s (Vaswani et al. 2017), over the state's tokens too."""
    state = _append(state, k, v)
    keys, values = state.keys[:, : state.length], state.values[:, : state.length]
    note_form("attention", execution.form)
    attend = causal_attention_loop if execution.form == "loop" else causal_attention_fused
    return attend(q, keys, values), state


def causal_attention_loop(
    q: Float[Tensor, "B T H K"], k: Float[Tensor, "B S H K"], v: Float[Tensor, "B S H V"]
) -> Float[Tensor, "B T H V"]:
    """The definition, one query at a time; query i sees keys 0 ... S - T + i."""
    before = k.shape[1] - q.shape[1]
    outputs = []
    for t in range(q.shape[1]):
        seen = before + t + 1
        scores = torch.einsum("bhk,bshk->bhs", q[:, t], k[:, :seen]) / math.sqrt(q.shape[-1])
        outputs.append(torch.einsum("bhs,bshv->bhv", scores.softmax(-1), v[:, :seen]))
    return torch.stack(outputs, 1)


def causal_attention_fused(
    q: Float[Tensor, "B T H K"], k: Float[Tensor, "B S H K"], v: Float[Tensor, "B S H V"]
) -> Float[Tensor, "B T H V"]:
    """All queries at once through torch's scaled_dot_product_attention."""
    T, S = q.shape[1], k.shape[1]
    mask = None
    if 1 < T < S:
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=T == S and T > 1
    )
    return y.transpose(1, 2)


def _append(state: AttentionState | None, k: Tensor, v: Tensor) -> AttentionState:
    if state is None:
        return AttentionState(k, v, k.shape[1])
    length = state.length + k.shape[1]
    if length <= state.keys.shape[1] and not torch.is_grad_enabled():
        state.keys[:, state.length : length] = k
        state.values[:, state.length : length] = v
        return AttentionState(state.keys, state.values, length)
    keys = torch.cat([state.keys[:, : state.length], k], 1)
    return AttentionState(keys, torch.cat([state.values[:, : state.length], v], 1), length)
