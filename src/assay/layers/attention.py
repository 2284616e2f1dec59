"""Multi-head causal self-attention with a growing cache, as in document 000's GPT-1.

Shapes: B batch, T tokens of this call, D d_model, H heads, K head width.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.basic import uniform_fan_in_
from assay.layers.mixer import SequenceLayer, Shared
from assay.ops.attention import AttentionState, causal_attention


class CausalAttention(SequenceLayer):
    """softmax(q k^T / sqrt(K)) v over past and present, no biases, no positions of its own (Vaswani et al. 2017)."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise RequestError(f"d_model: {d_model} given, n_heads ({n_heads}) must divide it")
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: AttentionState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], AttentionState]:
        q, k, v = rearrange(self.qkv(x), "B T (three H K) -> three B T H K", three=3, H=self.n_heads)
        y, state = causal_attention(q, k, v, state, self.execution)
        return self.output(rearrange(y, "B T H K -> B T (H K)")), state

    def initial_state(self, batch: int, capacity: int | None = None) -> AttentionState:
        """An empty cache of `capacity` tokens; without one it grows call by call."""
        d_model = self.output.in_features
        shape = (batch, capacity or 0, self.n_heads, d_model // self.n_heads)
        empty = self.output.weight.new_zeros(shape)
        return AttentionState(empty, empty.clone(), 0)

    def reset_parameters(self, generator: torch.Generator) -> None:
        for layer in (self.qkv, self.output):
            uniform_fan_in_(layer.weight, generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight,)

    def flops_per_token(self, context: int) -> int:
        """Projections 8 D^2; scores and weighted values 4 D for each of the (context + 1) / 2 keys seen on average."""
        d_model = self.output.in_features
        return 8 * d_model**2 + 2 * d_model * (context + 1)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return 2 * context * self.output.in_features * bytes_per_element
