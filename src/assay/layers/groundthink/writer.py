"""The G layer of the causal GroundThink hybrid: it writes a delta-rule memory, which S layers read.

The hybrid is that of document 001, a research note; there a memory passed from layer to layer, which leaks. Here each G
layer's memory starts empty, and later layers get only what belongs to their own position. It publishes in `shared`, for
the S layers after it (reader.py), at all positions of this call:

    groundthink.keys, .values [B, T, H, K], .beta, .log_decay [B, T, H]    the writes, after the shift if there is one
    groundthink.key_weight [H K, D]              its key projection: a weight, the same for every position
    groundthink.marker_keys [B, T, K], .is_marker [B, T]                  where a key bank is on

Shapes: B batch, T tokens of this call, D d_model, H heads, K head width (keys and values), M markers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.basic import Tap, orthogonal_, uniform_fan_in_
from assay.layers.mixer import ExecutedFlops, Layer, SequenceLayer, Shared
from assay.ops.delta_rule import DELTA_RULE, ErrorTaken, delta_rule, delta_rule_flops


class Writes(NamedTuple):
    """How each token writes into the memory: keys [B, T, H, K], beta and log decay [B, T, H], float32 or wider."""

    keys: Tensor
    beta: Tensor
    log_decay: Tensor


class MemoryState(NamedTuple):
    """`memory` [B, H, K, K] in float32 or wider; `last`: the last token's unshifted writes, `()` without a shift."""

    memory: Tensor
    last: Writes | tuple[()]


class Markers(Layer):
    """Marker tokens, given by their ids: `beta_floor` does not apply to them, and a bank gives them orthogonal keys.

    `bank` [K, K] is a buffer of orthonormal rows; marker number i has row i as its key in every head.
    """

    ids: Tensor
    bank: Tensor | None

    def __init__(self, marker_ids: Sequence[int], head_dim: int, key_bank: bool) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor(list(marker_ids), dtype=torch.long), persistent=False)
        self.register_buffer("bank", torch.zeros(head_dim, head_dim) if key_bank else None)

    def found(self, shared: Shared | None) -> Bool[Tensor, "B T M"] | None:
        """Which marker each token is, from `shared["ids"]`; None where there are no markers to look for."""
        if not len(self.ids):
            return None
        if shared is None or "ids" not in shared:
            raise ValueError('a layer with marker_ids needs the token ids of the call in shared["ids"]')
        return shared["ids"][..., None] == self.ids

    def keys(self, found: Bool[Tensor, "B T M"]) -> Float[Tensor, "B T K"]:
        """The bank's key of each marker token; at other tokens the result means nothing."""
        assert self.bank is not None
        return self.bank[found.long().argmax(-1)]

    def reset_parameters(self, generator: torch.Generator) -> None:
        if self.bank is not None:
            orthogonal_(self.bank, 1.0, generator)


class MemoryLayer(SequenceLayer):
    """W_o y_t with y_t = S_t^T k_t; the gated delta rule makes S_t of k_t = W_k x_t / |W_k x_t| and v_t = W_v x_t.

    beta_t = sigmoid(w_b x_t + b_b), times `beta_floor` for tokens that are no markers. The decay is a gate: its
    logarithm is log sigmoid(w_g x_t + b_g). `beta_bias` and `gate_bias` are the initial b_b and b_g. With
    `shifted_value` token t writes (k_{t-1}, v_t) with beta and gate of t - 1 and reads with k_{t-1}; the first token
    does neither. Reads use the key, as there is no query projection. `error` as in `delta_rule`.
    """

    ops = (DELTA_RULE,)

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        markers: Markers,
        *,
        shifted_value: bool = True,
        beta_floor: float = 1.0,
        beta_bias: float = 0.0,
        gate_bias: float = 2.0,
        error: ErrorTaken = "after",
    ) -> None:
        super().__init__()
        self.n_heads, self.head_dim = n_heads, head_dim
        self.shifted_value, self.beta_floor = shifted_value, beta_floor
        self.beta_bias, self.gate_bias = beta_bias, gate_bias
        self.error: ErrorTaken = error
        self.key = nn.Linear(d_model, n_heads * head_dim, bias=False)
        self.value = nn.Linear(d_model, n_heads * head_dim, bias=False)
        self.output = nn.Linear(n_heads * head_dim, d_model, bias=False)
        self.beta = nn.Linear(d_model, n_heads)
        self.gate = nn.Linear(d_model, n_heads)
        self.markers = markers
        self.beta_tap, self.log_decay_tap = Tap(), Tap()

    def forward(
        self, x: Float[Tensor, "B T D"], state: MemoryState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], MemoryState]:
        found = self.markers.found(shared)
        writes, last = self.shifted(self.writes(x, found), state)
        values = self.value(x).unflatten(-1, (self.n_heads, self.head_dim))
        y, memory = delta_rule(
            writes.keys,
            writes.keys,
            values,
            writes.beta,
            writes.log_decay,
            self.start(state, shared),
            self.execution,
            self.error,
        )
        if shared is not None:
            self.publish(shared, writes, values, memory)
            if found is not None and self.markers.bank is not None:
                shared["groundthink.marker_keys"] = self.markers.keys(found)
                shared["groundthink.is_marker"] = found.any(-1)
        return self.output(y.flatten(2)), MemoryState(memory, last)

    def start(self, state: MemoryState | None, shared: Shared | None) -> Float[Tensor, "B H K K"] | None:
        """The memory before the first token of the call: this layer's own, and nothing else."""
        return None if state is None else state.memory

    def publish(
        self, shared: Shared, writes: Writes, values: Float[Tensor, "B T H K"], memory: Float[Tensor, "B H K K"]
    ) -> None:
        """Publish what an S layer needs to repeat the recurrence.

        `memory`, the state after all tokens, is not published: an earlier position that read it would see the future.
        """
        shared["groundthink.keys"], shared["groundthink.values"] = writes.keys, values
        shared["groundthink.beta"], shared["groundthink.log_decay"] = writes.beta, writes.log_decay
        shared["groundthink.key_weight"] = self.key.weight

    def writes(self, x: Float[Tensor, "B T D"], found: Bool[Tensor, "B T M"] | None) -> Writes:
        """Key, beta and log decay of each token, not shifted."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        keys = F.normalize(self.key(x).to(dtype).unflatten(-1, (self.n_heads, self.head_dim)), dim=-1)
        beta = torch.sigmoid(self.beta(x).to(dtype))
        log_decay = self.log_decay_tap(F.logsigmoid(self.gate(x).to(dtype)))
        if found is not None and self.markers.bank is not None:
            keys = torch.where(found.any(-1)[..., None, None], self.markers.keys(found)[:, :, None].to(dtype), keys)
        if self.beta_floor != 1:
            beta = beta * self.beta_floor if found is None else beta.where(found.any(-1, True), beta * self.beta_floor)
        return Writes(keys, self.beta_tap(beta), log_decay)

    def shifted(self, writes: Writes, state: MemoryState | None) -> tuple[Writes, Writes | tuple[()]]:
        """The writes of each token, shifted by one where `shifted_value` is on, and the last one for the next call."""
        if not self.shifted_value:
            return writes, ()
        last = state.last if state is not None and state.last else Writes(*(torch.zeros_like(w[:, 0]) for w in writes))
        moved = (torch.cat([old[:, None], new[:, :-1]], 1) for old, new in zip(last, writes, strict=True))
        return Writes(*moved), Writes(*(new[:, -1].clone() for new in writes))

    def initial_state(self, batch: int, capacity: int | None = None) -> MemoryState:
        H, K = self.n_heads, self.head_dim
        dtype = torch.promote_types(self.key.weight.dtype, torch.float32)
        shapes = ((batch, H, K), (batch, H), (batch, H))
        last = Writes(*(self.key.weight.new_zeros(shape, dtype=dtype) for shape in shapes))
        memory = self.key.weight.new_zeros(batch, H, K, K, dtype=dtype)
        return MemoryState(memory, last if self.shifted_value else ())

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """As torch draws linear layers, except that the biases of beta and gate start as given."""
        for layer in (self.key, self.value, self.output, self.beta, self.gate):
            uniform_fan_in_(layer.weight, generator)
        nn.init.constant_(self.beta.bias, self.beta_bias)
        nn.init.constant_(self.gate.bias, self.gate_bias)
        self.markers.reset_parameters(generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight,)

    def flops_per_token(self, context: int) -> int:
        """The five projections, and 7 K^2 per head: decay K^2, error, write and read 2 K^2 each."""
        return self._projections() + 7 * self.n_heads * self.head_dim**2

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """The projections and `delta_rule_flops`. Not counted, per token: 2 H biases, 3 H K for the keys' norm."""
        H, K = self.n_heads, self.head_dim
        rule, uncounted = delta_rule_flops(tokens, H, K, K, self.execution)
        uncounted |= {"biases": 2 * tokens * H, "key norm": 3 * tokens * H * K}
        return ExecutedFlops(tokens * self._projections() + rule, uncounted)

    def _projections(self) -> int:
        """FLOPs per token, 2 per weight."""
        return 2 * sum(layer.weight.numel() for layer in (self.key, self.value, self.output, self.beta, self.gate))

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """H K K elements of memory and, with the shift, H (K + 2) of the last write, at least 4 bytes each."""
        H, K = self.n_heads, self.head_dim
        elements = H * K * K + (H * (K + 2) if self.shifted_value else 0)
        return elements * max(4, bytes_per_element)
