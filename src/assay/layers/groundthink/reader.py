"""The S layer of the causal GroundThink hybrid: sliding-window attention, and reads from the previous G layer's memory.

The hybrid is that of document 001, a research note; there S read the memory's final state, which leaks. Here an S layer
repeats the recurrence of the G layer before it with a query of its own, so that position t reads S_t and no later
state. It finds what G wrote in `shared`, where G (writer.py) publishes it.

Shapes: B batch, T tokens of this call, D d_model, H heads, K head width (keys and values).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.basic import PathTap, Tap, uniform_fan_in_
from assay.layers.mixer import ExecutedFlops, SequenceLayer, Shared, State
from assay.layers.randomness import Dropout, Masking
from assay.ops.attention import (
    SLIDING_ATTENTION,
    single_keys,
    sliding_attention,
    sliding_scores,
)
from assay.ops.attention_state import WindowState, with_room
from assay.ops.delta_rule import DELTA_RULE, ErrorTaken, delta_rule, delta_rule_flops
from assay.ops.execution import Execution, product_dtype
from assay.ops.forms import Op
from assay.ops.rotary import rotate


class ReaderState(NamedTuple):
    """`window`: the state of local attention; `memory` [B, H, K, K]: this layer's copy of G's memory, `()` for none."""

    window: WindowState
    memory: Tensor | tuple[()]


def with_marker_keys(queries: Float[Tensor, "B T H K"], shared: Shared) -> Float[Tensor, "B T H K"]:
    """`queries`, with those of marker tokens replaced by the bank keys that a G layer published, if it did."""
    if "groundthink.is_marker" not in shared:
        return queries
    keys = shared["groundthink.marker_keys"][:, :, None].to(queries)
    return torch.where(shared["groundthink.is_marker"][..., None, None], keys, queries)


class ReaderLayer(SequenceLayer):
    """c W_o a_t + mean_h sigmoid(w_h x_t + b_h) W_r S_t^T q_t: attention over a window, and the G layer's memory.

    a_t is softmax attention over the last `window` tokens, with rotary positions where `rope` is on. S_t is the memory
    of the G layer before it at the same position t. q_t is the G layer's key projection of this layer's x where
    `shared_key` is on, else a projection of its own; either is normalised to length 1, and a marker with a key in the
    bank has that key as its query. c is `local_scale`; in training a sequence also loses its local attention with
    probability `local_drop` (that of the others is divided by 1 - local_drop). `gate_bias` is the initial b_h.
    """

    ops: tuple[Op, ...] = (SLIDING_ATTENTION, DELTA_RULE)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        window: int = 64,
        shared_key: bool = True,
        local_scale: float = 0.3,
        local_drop: float = 0.7,
        gate_bias: float = 1.0,
        rope: bool = False,
        dropout: float = 0.0,
        error: ErrorTaken = "after",
    ) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.window, self.rope = n_heads, head_dim, window, rope
        self.local_scale, self.local_drop, self.gate_bias = local_scale, local_drop, gate_bias
        self.error: ErrorTaken = error
        inner = n_heads * head_dim
        self.query, self.key, self.value = (nn.Linear(d_model, inner, bias=False) for _ in range(3))
        self.output = nn.Linear(inner, d_model, bias=False)
        self.memory_query = None if shared_key else nn.Linear(d_model, inner, bias=False)
        self.memory_output = nn.Linear(inner, d_model, bias=False)
        self.gate = nn.Linear(d_model, n_heads)
        self.masking, self.dropout = Masking(), Dropout(dropout)
        self.gate_tap = Tap()
        self.local_tap, self.retrieval_tap = PathTap(), PathTap()
        self.query_tap, self.key_tap = Tap(), Tap()

    def forward(
        self, x: Float[Tensor, "B T D"], state: ReaderState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], ReaderState]:
        local, window = self._local(x, None if state is None else state.window)
        read, memory = self.retrieve(x, state, {} if shared is None else shared)
        gate = self.gate_tap(torch.sigmoid(self.gate(x)).mean(-1, keepdim=True))
        retrieval = self.retrieval_tap(gate * self.memory_output(read.flatten(2)))
        return self.local_tap(self.local_factor(local) * local) + retrieval, ReaderState(window, memory)

    def retrieve(
        self, x: Float[Tensor, "B T D"], state: ReaderState | None, shared: Shared
    ) -> tuple[Float[Tensor, "B T H K"], Tensor | tuple[()]]:
        """(S_t^T q_t at every position, the memory after the last), by the recurrence of the previous G layer."""
        if "groundthink.keys" not in shared:
            raise ValueError("an S layer reads what a G layer of the same call publishes in `shared`: there is none")
        return delta_rule(
            self.memory_queries(x, shared),
            shared["groundthink.keys"],
            shared["groundthink.values"],
            shared["groundthink.beta"],
            shared["groundthink.log_decay"],
            state.memory if state and isinstance(state.memory, Tensor) else None,
            self.execution,
            self.error,
        )

    def local_factor(self, local: Float[Tensor, "B T D"]) -> Tensor | float:
        """The factor of local attention; in training one number per sequence, [B, 1, 1]."""
        if not self.training or self.local_drop == 0:
            return self.local_scale
        return self.local_scale * self.masking.keep((len(local), 1, 1), self.local_drop, local)

    def _local(
        self, x: Float[Tensor, "B T D"], state: WindowState | None
    ) -> tuple[Float[Tensor, "B T D"], WindowState]:
        q, k, v = (
            layer(x).unflatten(-1, (self.n_heads, self.head_dim)) for layer in (self.query, self.key, self.value)
        )
        if self.rope:
            position = 0 if state is None else state.length
            q, k = rotate(q, position), rotate(k, position)
        q, k = self.query_tap(q), self.key_tap(k)
        drop = self.dropout if self.training and self.dropout.p > 0 else None
        y, state = sliding_attention(q, k, v, state, self.window, self.execution, drop)
        return self.output(y.flatten(2)), state

    def memory_queries(self, x: Float[Tensor, "B T D"], shared: Shared) -> Float[Tensor, "B T H K"]:
        """The queries to the memory, normalised; a marker's is its key of the bank."""
        asked = F.linear(x, shared["groundthink.key_weight"]) if self.memory_query is None else self.memory_query(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        queries = F.normalize(asked.to(dtype).unflatten(-1, (self.n_heads, self.head_dim)), dim=-1)
        return with_marker_keys(queries, shared)

    def initial_state(self, batch: int, capacity: int | None = None) -> ReaderState:
        weight, H, K = self.key.weight, self.n_heads, self.head_dim
        keys, values = (weight.new_zeros(batch, 0, H, K, dtype=product_dtype(weight)) for _ in range(2))
        memory = weight.new_zeros(batch, H, K, K, dtype=torch.promote_types(weight.dtype, torch.float32))
        return ReaderState(WindowState(keys, values, 0), memory)

    def fixed_state(self, state: State, capacity: int, position: Int[Tensor, ""]) -> State:
        return state._replace(window=with_room(state.window, min(capacity, self.window), position))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """As torch draws linear layers, except that the gate's bias starts at `gate_bias`."""
        own = [] if self.memory_query is None else [self.memory_query]
        for layer in (self.query, self.key, self.value, self.output, *own, self.memory_output, self.gate):
            uniform_fan_in_(layer.weight, generator)
        nn.init.constant_(self.gate.bias, self.gate_bias)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight, self.memory_output.weight)

    def flops_per_token(self, context: int) -> int:
        """The projections, 4 H K per key in the window, mean over positions, and 7 K^2 per head for the memory."""
        H, K = self.n_heads, self.head_dim
        seen = sliding_scores(context, self.window, Execution("loop"))
        return self._projections() + 4 * H * K * seen // context + 7 * H * K**2

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """The projections, 4 K per score that a head computes, masked ones included, and `memory_flops`.

        Not counted: 5 per score for softmax; per token: H biases and H for the gate's mean, 3 H K for the norm of the
        queries, 3 D to scale local attention, gate the retrieval and add them, 6 H K for rotary positions.
        """
        H, K, D = self.n_heads, self.head_dim, self.gate.in_features
        scores = H * sliding_scores(tokens, self.window, self.execution, self.gate.weight.device.type)
        rule, uncounted = self.memory_flops(tokens)
        uncounted |= {"softmax": 5 * scores, "gate": 2 * tokens * H, "query norm": 3 * tokens * H * K}
        uncounted |= {"sum": 3 * tokens * D} | ({"rotation": 6 * tokens * H * K} if self.rope else {})
        single = 2 * K * H * single_keys(tokens, self.execution, self.window)
        uncounted |= {"elementwise products": single} if single else {}
        return ExecutedFlops(tokens * self._projections() + 4 * K * scores - single + rule, uncounted)

    def memory_flops(self, tokens: int) -> tuple[int, dict[str, int]]:
        """FLOPs of `retrieve` without its projection: those counted, and by name those that are not."""
        return delta_rule_flops(tokens, self.n_heads, self.head_dim, self.head_dim, self.execution)

    def _projections(self) -> int:
        """FLOPs per token, 2 per weight. A query by the shared key projection costs as much as by an own one."""
        return 2 * self.gate.in_features * (6 * self.n_heads * self.head_dim + self.n_heads)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """Keys and values of the last window - 1 tokens, and H K K of the memory at least 4 bytes each."""
        H, K = self.n_heads, self.head_dim
        window = 2 * min(context, self.window - 1) * H * K * bytes_per_element
        return window + H * K * K * max(4, bytes_per_element)
