"""Multi-head causal self-attention over all tokens so far, or over a window of the last tokens.

Shapes: B batch, T tokens of this call, D d_model, H heads, G heads of keys and values, K head width.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.basic import FAN_IN, ProjectionDraws, Tap
from assay.layers.mixer import ExecutedFlops, SequenceLayer, Shared, State
from assay.layers.randomness import Dropout
from assay.ops.attention import (
    ATTENTION,
    SLIDING_ATTENTION,
    causal_attention,
    causal_scores,
    single_keys,
    sliding_attention,
    sliding_scores,
)
from assay.ops.attention_blocks import Drop
from assay.ops.attention_state import AttentionState, WindowState, with_room
from assay.ops.execution import product_dtype
from assay.ops.rotary import rotate


class CausalAttention(SequenceLayer):
    """softmax(q k^T / sqrt(K)) v over past and present (Vaswani et al. 2017).

    With `rope_base` queries and keys are rotated by their position (Su et al. 2021), counted from the first token in
    the state; without it the layer knows no positions. `n_kv_heads` is the number of key and value heads, each shared
    by a group of query heads (Ainslie et al. 2023); None means as many as query heads. `dropout` acts on the attention
    weights, in training. `query_tap` [B, T, H, K] and `key_tap` [B, T, G, K] see queries and keys, rotated if rotary.
    """

    ops = (ATTENTION,)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        rope_base: float | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        draws: ProjectionDraws = FAN_IN,
    ) -> None:
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads:
            raise RequestError(f"d_model: {d_model} given, n_heads ({n_heads}) must divide it")
        if n_heads % n_kv_heads:
            raise RequestError(f"n_kv_heads: {n_kv_heads} given, it must divide n_heads ({n_heads})")
        if rope_base is not None and d_model // n_heads % 2:
            raise RequestError(f"n_heads: {n_heads} given, rotary positions want an even d_model / n_heads")
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, d_model // n_heads
        self.rope_base = rope_base
        self.qkv = nn.Linear(d_model, (n_heads + 2 * n_kv_heads) * self.head_dim, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)
        self.dropout = Dropout(dropout)
        self.query_tap, self.key_tap = Tap(), Tap()
        self._draws = draws

    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        q, k, v = self._project(x, 0 if state is None else state.length)
        q, k = self.query_tap(q), self.key_tap(k)
        drop = self.dropout if self.dropout.training and self.dropout.p > 0 else None
        y, state = self._attend(q, k, v, state, drop)
        return self.output(y.flatten(2)), state

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, state: State | None, drop: Drop | None) -> tuple[Tensor, State]:
        return causal_attention(q, k, v, state, self.execution, drop)

    def _project(self, x: Tensor, position: int | Int[Tensor, ""]) -> tuple[Tensor, ...]:
        """Queries [B, T, H, K], keys and values [B, T, G, K], rotated if rotary; the first token is at `position`."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        if self.rope_base is not None:
            turned, v = heads.split([self.n_heads + self.n_kv_heads, self.n_kv_heads], 2)
            q, k = rotate(turned, position, self.rope_base).split([self.n_heads, self.n_kv_heads], 2)
            return q, k, v
        parts: tuple[Tensor, ...] = heads.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], 2)
        return parts

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        """An empty cache of `capacity` tokens; without one it grows call by call."""
        return AttentionState(*self._empty(batch, capacity or 0), 0)

    def fixed_state(self, state: State, capacity: int, position: Int[Tensor, ""]) -> State:
        return with_room(state, capacity, position)

    def _empty(self, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
        weight = self.output.weight
        keys = weight.new_zeros(batch, tokens, self.n_kv_heads, self.head_dim, dtype=product_dtype(weight))
        return keys, keys.clone()

    def reset_parameters(self, generator: torch.Generator) -> None:
        self._draws.inner(self.qkv.weight.data, generator)
        self._draws.output(self.output.weight.data, generator)
        for bias in (self.qkv.bias, self.output.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight,)

    def flops_per_token(self, context: int) -> int:
        """2 per weight of the projections; 4 D per key that a query sees (score, weighted value), mean over queries."""
        projections = 2 * (self.qkv.weight.numel() + self.output.weight.numel())
        return projections + 4 * self.output.in_features * self._keys_seen(context) // context

    def _keys_seen(self, context: int) -> int:
        """The number of keys that a query sees, summed over the queries at positions 1..context."""
        return context * (context + 1) // 2

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """2 per weight of the projections and 4 K per score that a head computes, masked ones included.

        Not counted: 5 per score for scaling and softmax (multiply, subtract the maximum, exp, sum, divide), 3 per
        channel of queries and keys for the rotation, 1 per output for biases; and the loop's products along an axis of
        length 1, which are no matrix products: 2 K for the value of a query that sees one key, all of a head whose K
        is 1.
        """
        scores = self.n_heads * self._scores(tokens)
        single = 2 * self.head_dim * self.n_heads * self._single_keys(tokens)
        if self.head_dim == 1 and single:
            single += 2 * scores
        projections = 2 * (self.qkv.weight.numel() + self.output.weight.numel())
        uncounted = {"softmax": 5 * scores} | ({"elementwise products": single} if single else {})
        if self.rope_base is not None:
            uncounted["rotation"] = 3 * tokens * (self.n_heads + self.n_kv_heads) * self.head_dim
        if self.qkv.bias is not None:
            uncounted["biases"] = tokens * (self.qkv.out_features + self.output.out_features)
        return ExecutedFlops(tokens * projections + 4 * self.head_dim * scores - single, uncounted)

    def _scores(self, tokens: int) -> int:
        return causal_scores(tokens, self.execution, self.output.weight.device.type)

    def _single_keys(self, tokens: int) -> int:
        return single_keys(tokens, self.execution)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return 2 * context * self.n_kv_heads * self.head_dim * bytes_per_element


class SlidingWindowAttention(CausalAttention):
    """`CausalAttention` over the last `window` tokens, the current one included; the state holds window - 1 at most.

    In a stack of n such layers, an output still depends on tokens up to n (window - 1) positions back.
    """

    ops = (SLIDING_ATTENTION,)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        window: int,
        *,
        n_kv_heads: int | None = None,
        rope_base: float | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        draws: ProjectionDraws = FAN_IN,
    ) -> None:
        super().__init__(
            d_model, n_heads, n_kv_heads=n_kv_heads, rope_base=rope_base, bias=bias, dropout=dropout, draws=draws
        )
        if window < 1:
            raise RequestError(f"window: {window} given, it counts the current token and must be 1 or more")
        self.window = window

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, state: State | None, drop: Drop | None) -> tuple[Tensor, State]:
        return sliding_attention(q, k, v, state, self.window, self.execution, drop)

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        """An empty cache. It grows to window - 1 tokens and no further, whatever the capacity."""
        return WindowState(*self._empty(batch, 0), 0)

    def fixed_state(self, state: State, capacity: int, position: Int[Tensor, ""]) -> State:
        return with_room(state, min(capacity, self.window), position)

    def _keys_seen(self, context: int) -> int:
        inside = min(context, self.window)
        return inside * (inside + 1) // 2 + (context - inside) * self.window

    def _scores(self, tokens: int) -> int:
        return sliding_scores(tokens, self.window, self.execution, self.output.weight.device.type)

    def _single_keys(self, tokens: int) -> int:
        return single_keys(tokens, self.execution, self.window)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return super().state_bytes(min(context, self.window - 1), bytes_per_element)
