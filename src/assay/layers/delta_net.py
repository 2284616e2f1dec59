"""DeltaNet's mixer: a short convolution, normalised keys and a memory corrected by the delta rule (Yang et al. 2024).

    S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T,    y_t = S_t^T q_t / sqrt(K)

(arXiv 2406.06484, sections 2 and 4.) Layout and initialisation are those of the authors' library
(flash-linear-attention, fla/layers/delta_net.py and fla/models/delta_net).

Shapes: B batch, T tokens of this call, D d_model, G key heads, H value heads, K key width, V value width, W filter
width, C = 2 G K + H V channels of the convolution.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.basic import RMSNorm, Tap
from assay.layers.mixer import ExecutedFlops, SequenceLayer, Shared
from assay.ops.activations import silu
from assay.ops.convolution import CONVOLUTION, causal_convolution, convolution_flops
from assay.ops.delta_rule import DELTA_RULE, ErrorTaken, delta_rule, delta_rule_flops
from assay.ops.execution import product_dtype
from assay.ops.rms_norm import rms_norm

INITIAL_STD = 0.02
_L2_EPS = 1e-6


class DeltaNetState(NamedTuple):
    """The last W - 1 inputs of the convolution [B, W - 1, C] ([B, 0, C] without a convolution), and the memory S
    [B, H, K, V] in float32 or wider.
    """

    convolution: Tensor
    memory: Tensor


def l2_normalised(x: Float[Tensor, "*B K"], length: float = 1.0) -> Float[Tensor, "*B K"]:
    """length * x / sqrt(sum(x^2) + 1e-6) over the last axis; in float32, or wider if x is."""
    K = x.shape[-1]
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return rms_norm(x, x.new_full((K,), length / math.sqrt(K)), _L2_EPS / K)


class DeltaNet(SequenceLayer):
    """output_proj(norm(y)), y from q, k, v = silu(convolution(qkv_proj x)), q and k of length 1, and
    beta = sigmoid(beta_proj x).

    `conv_width` 0 leaves the convolution out; `output_gate` multiplies norm(y) by silu(gate_proj x), as in Gated
    DeltaNet; `negative_eigenvalues` doubles beta, so that a write can flip what is stored (Grazzi et al. 2024, arXiv
    2411.12537). `n_value_heads` (default `n_heads`) is a multiple of `n_heads`, the number of query and key heads;
    each of these serves n_value_heads / n_heads neighbouring value heads. `beta_tap` [B, T, H] and `gate_tap`
    [B, T, H V] see beta and silu(gate_proj x).
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {"conv_weight": True}
    error: ErrorTaken = "after"
    """Whether v - S^T k is computed from the memory after its decay or before it; here nothing decays, so no matter."""
    conv_weight: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        key_dim: int,
        value_dim: int,
        *,
        n_value_heads: int | None = None,
        conv_width: int = 4,
        output_gate: bool = False,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__()
        n_value_heads = n_heads if n_value_heads is None else n_value_heads
        if n_value_heads % n_heads:
            raise RequestError(f"n_value_heads: {n_value_heads} given, a multiple of n_heads ({n_heads}) is needed")
        self.n_heads, self.n_value_heads, self.key_dim, self.value_dim = n_heads, n_value_heads, key_dim, value_dim
        self.negative_eigenvalues = negative_eigenvalues
        self.ops = (CONVOLUTION, DELTA_RULE) if conv_width else (DELTA_RULE,)
        values = n_value_heads * value_dim
        channels = 2 * n_heads * key_dim + values
        self.qkv_proj = nn.Linear(d_model, channels, bias=False)
        conv_weight = nn.Parameter(torch.empty(channels, conv_width)) if conv_width else None
        self.register_parameter("conv_weight", conv_weight)
        self.beta_proj = nn.Linear(d_model, n_value_heads, bias=False)
        self.gate_proj = nn.Linear(d_model, values, bias=False) if output_gate else None
        self.norm = RMSNorm(value_dim)
        self.output_proj = nn.Linear(values, d_model, bias=False)
        self.beta_tap, self.gate_tap = Tap(), Tap()

    def forward(
        self, x: Float[Tensor, "B T D"], state: DeltaNetState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], DeltaNetState]:
        (q, k, v), conv_state = self._queries_keys_values(x, state and state.convolution)
        y, memory = delta_rule(
            q, k, v, self._beta(x), self._log_decay(x), state and state.memory, self.execution, self.error
        )
        y = self.norm(y).flatten(2)
        if self.gate_proj is not None:
            y = y * self.gate_tap(silu(self.gate_proj(x)))
        return self.output_proj(y.to(product_dtype(x))), DeltaNetState(conv_state, memory)

    def _queries_keys_values(
        self, x: Float[Tensor, "B T D"], state: Float[Tensor, "B W C"] | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """q and k [B, T, H, K], v [B, T, H, V], and the convolution's state."""
        qkv = self.qkv_proj(x)
        if self.conv_weight is None:
            state = qkv.new_empty(len(qkv), 0, qkv.shape[2])
        else:
            qkv, state = causal_convolution(qkv, self.conv_weight, None, state, self.execution)
        keys = self.n_heads * self.key_dim
        q, k, v = silu(qkv).split([keys, keys, self.n_value_heads * self.value_dim], -1)
        q, k = (part.unflatten(-1, (self.n_heads, self.key_dim)) for part in (q, k))
        q, k = l2_normalised(q, 1 / math.sqrt(self.key_dim)), l2_normalised(k)
        if self.n_value_heads != self.n_heads:
            q, k = (part.repeat_interleave(self.n_value_heads // self.n_heads, 2) for part in (q, k))
        return (q, k, v.unflatten(-1, (self.n_value_heads, self.value_dim))), state

    def _beta(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H"]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        beta = torch.sigmoid(self.beta_proj(x).to(dtype))
        tapped: Tensor = self.beta_tap(2 * beta if self.negative_eigenvalues else beta)
        return tapped

    def _log_decay(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H"] | None:
        """The log decay of each token and head; None, as DeltaNet has no decay."""
        return None

    def initial_state(self, batch: int, capacity: int | None = None) -> DeltaNetState:
        weight = self.qkv_proj.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return DeltaNetState(
            weight.new_zeros(batch, max(self._conv_width - 1, 0), len(weight)),
            weight.new_zeros(batch, self.n_value_heads, self.key_dim, self.value_dim, dtype=dtype),
        )

    @property
    def _conv_width(self) -> int:
        return 0 if self.conv_weight is None else self.conv_weight.shape[1]

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Every matrix and filter from N(0, 0.02^2), as in the authors' models."""
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, 0.0, INITIAL_STD, generator=generator)
        self.norm.reset_parameters(generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output_proj.weight,)

    def flops_per_token(self, context: int) -> int:
        """2 per weight of matrices and filters, and 6 K V per value head: reading with k, writing, reading with q.

        Norms, gates and beta are not counted.
        """
        weights = sum(parameter.numel() for parameter in self.parameters() if parameter.ndim == 2)
        return 2 * weights + 6 * self.n_value_heads * self.key_dim * self.value_dim

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """2 per weight of the matrices, and what `delta_rule_flops` says of the recurrence.

        Not counted: 2 per weight of the filters;
        4 per element for SiLU and sigmoid, 4 per element for norms, 1 per element for the product with the gate.
        """
        filters = 2 * self._conv_width * self.qkv_proj.out_features
        matrices = 2 * sum(p.numel() for p in self.parameters() if p.ndim == 2) - filters
        values = self.output_proj.in_features
        rule, uncounted = delta_rule_flops(tokens, self.n_value_heads, self.key_dim, self.value_dim, self.execution)
        gates = values if self.gate_proj is not None else 0
        uncounted |= {
            "silu": 4 * tokens * (self.qkv_proj.out_features + gates),
            "sigmoid": 4 * tokens * self.n_value_heads,
            "norms": 4 * tokens * (2 * self.n_heads * self.key_dim + values),
            "gate": tokens * gates,
        }
        width, channels = self._conv_width, self.qkv_proj.out_features
        convolution, more = convolution_flops(tokens, channels, width)
        return ExecutedFlops(tokens * matrices + rule + convolution, uncounted | more)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """W - 1 inputs of the convolution and H K V elements of the memory, the latter at least 4 bytes each."""
        inputs = max(self._conv_width - 1, 0) * self.qkv_proj.out_features
        memory = self.n_value_heads * self.key_dim * self.value_dim
        return inputs * bytes_per_element + memory * max(4, bytes_per_element)
