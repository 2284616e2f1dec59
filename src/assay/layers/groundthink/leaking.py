"""The GroundThink v7 hybrid as document 001 (the research note on it) ran it, with its two leaks: an audit finds them.

G writes a memory S [K, K] per head, an S layer reads it. x is the layer's input, t the position, g the decay:

    G   y_t = W_o S_t^T k_{t-1},  S_t = g_{t-1} S_{t-1} + beta_{t-1} k_{t-1} (v_t - S_{t-1}^T k_{t-1})^T,  y_0 = 0
        k = W_k x / |W_k x|, v = W_v x, beta = sigmoid(w_b x + b_b), g = sigmoid(w_g x + b_g). The error is taken before
        the decay. Position 0 writes nothing either. Without `shifted_value` every index t-1 of k, beta and g is t, and
        position 0 writes and reads as the others do.
        Leak: S starts from the final state of the G layer before it, which has seen every token of the call.
    S   y_t = c W_o a_t + mean_h sigmoid(w_h x_t + b_h) W_r S^T q_t; a_t is attention over t and `window` tokens before.
        q = W_k x with W_k of the G layer before it, not normalised, or its own global query, normalised.
        Leak: the memory S is the final state of that G layer, at every position.
        c is `local_scale` at inference. In training c is drawn per sequence: 0 with probability `local_drop`, else
        1 / (1 - local_drop); where local_drop is 0 it is `local_scale`, as in the document's runs without drops.

Where the document leaves something open, this is the choice: both layers get the block's normed x; norms have eps 1e-6;
the key bank has K orthonormal keys, drawn with the weights; a marker token has its key of the bank as its key in every
head of a G layer and as its query in an S layer; `beta_floor` is applied to beta before the shift; c multiplies after
W_o. Parameters that nothing uses are kept, so that counts agree with the document: `cue_query` in every G layer,
`global_query` in an S layer with a shared key.

Decoding token by token cannot give what one forward pass gives, because of the leaks: each layer continues from its own
state, a first call (without a state) starts as the full forward does, and an S layer reads G's state after the present
call.

Published in `shared`: groundthink.final_state [B, H, K, K], the leak itself; groundthink.key_weight and the markers'
keys, as in the causal form (writer.py).

Shapes: B batch, T tokens of this call, D d_model, H heads, K head width (keys and values), M markers.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.basic import uniform_fan_in_
from assay.layers.groundthink.reader import ReaderLayer, ReaderState, with_marker_keys
from assay.layers.groundthink.writer import Markers, MemoryLayer, MemoryState, Writes
from assay.layers.mixer import Shared
from assay.ops.attention import SLIDING_ATTENTION


class MemoryLayerV7(MemoryLayer):
    """G of the replica: it starts from the previous G layer's final state and publishes its own (both leak)."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        marker_ids: Sequence[int],
        *,
        shifted_value: bool = True,
        beta_floor: float = 1.0,
        beta_bias: float = 0.0,
        gate_bias: float = 2.0,
    ) -> None:
        super().__init__(
            d_model,
            n_heads,
            head_dim,
            Markers(marker_ids, head_dim, key_bank=True),
            shifted_value=shifted_value,
            beta_floor=beta_floor,
            beta_bias=beta_bias,
            gate_bias=gate_bias,
            error="before",
        )
        self.cue_query = nn.Linear(d_model, head_dim)

    def start(self, state: MemoryState | None, shared: Shared | None) -> Float[Tensor, "B H K K"] | None:
        """The layer's own memory; in a first call the final state of the G layer before it. This is a leak."""
        if state is not None:
            return state.memory
        return None if shared is None else shared.get("groundthink.final_state")

    def publish(
        self, shared: Shared, writes: Writes, values: Float[Tensor, "B T H K"], memory: Float[Tensor, "B H K K"]
    ) -> None:
        """The state after the last token, for all positions of the layers that follow. This is a leak."""
        shared["groundthink.final_state"] = memory
        shared["groundthink.key_weight"] = self.key.weight

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """As in the causal form; `cue_query` as torch draws a linear layer."""
        super().reset_parameters(generator)
        uniform_fan_in_(self.cue_query.weight, generator)
        bound = self.cue_query.in_features**-0.5
        nn.init.uniform_(self.cue_query.bias, -bound, bound, generator=generator)


class ReaderLayerV7(ReaderLayer):
    """S of the replica: reads G's final state at every position (a leak); its attention sees `window` + 1 tokens.

    The layer keeps no memory of its own.
    """

    ops = (SLIDING_ATTENTION,)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        window: int = 64,
        shared_key: bool = True,
        local_scale: float = 0.3,
        local_drop: float = 0.7,
        gate_bias: float = 1.0,
        rope: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            d_model,
            n_heads,
            d_model // n_heads,
            window=window + 1,
            shared_key=True,
            local_scale=local_scale,
            local_drop=local_drop,
            gate_bias=gate_bias,
            rope=rope,
            dropout=dropout,
        )
        self.shared_key = shared_key
        self.global_query = nn.Linear(d_model, d_model, bias=False)

    def retrieve(
        self, x: Float[Tensor, "B T D"], state: ReaderState | None, shared: Shared
    ) -> tuple[Float[Tensor, "B T H K"], tuple[()]]:
        """S^T q_t, where S is the same final state at every position. This is a leak."""
        if "groundthink.final_state" not in shared:
            raise ValueError("an S layer reads what a G layer of the same call publishes in `shared`: there is none")
        memory = shared["groundthink.final_state"]
        queries = self.memory_queries(x, shared).to(memory)
        with torch.autocast(x.device.type, enabled=False):
            read = queries.transpose(1, 2) @ memory
        return read.transpose(1, 2).to(x.dtype), ()

    def memory_queries(self, x: Float[Tensor, "B T D"], shared: Shared) -> Float[Tensor, "B T H K"]:
        """The G layer's key projection of x, not normalised, or the global query, normalised; a marker's bank key."""
        heads = (self.n_heads, self.head_dim)
        if self.shared_key:
            queries = F.linear(x, shared["groundthink.key_weight"]).unflatten(-1, heads)
        else:
            queries = F.normalize(self.global_query(x).unflatten(-1, heads), dim=-1)
        return with_marker_keys(queries, shared)

    def local_factor(self, local: Float[Tensor, "B T D"]) -> Tensor | float:
        """`local_scale` at inference and where nothing is dropped; else in training 0 or 1 / (1 - local_drop)."""
        if not self.training or self.local_drop == 0:
            return self.local_scale
        return self.masking.keep((len(local), 1, 1), self.local_drop, local)

    def initial_state(self, batch: int, capacity: int | None = None) -> ReaderState:
        return ReaderState(super().initial_state(batch, capacity).window, ())

    def reset_parameters(self, generator: torch.Generator) -> None:
        super().reset_parameters(generator)
        uniform_fan_in_(self.global_query.weight, generator)

    def flops_per_token(self, context: int) -> int:
        """As in the causal form, but the memory is only read, 2 K^2 per head."""
        return super().flops_per_token(context) - 5 * self.n_heads * self.head_dim**2

    def memory_flops(self, tokens: int) -> tuple[int, dict[str, int]]:
        """2 K^2 per head and token, to read the memory."""
        return 2 * tokens * self.n_heads * self.head_dim**2, {}

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """Keys and values of the last `window` tokens."""
        return 2 * min(context, self.window - 1) * self.n_heads * self.head_dim * bytes_per_element
