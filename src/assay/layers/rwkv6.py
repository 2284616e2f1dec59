"""RWKV-6 "Finch": time mix and channel mix as published (Peng et al. 2024, arXiv 2404.05892, section 4).

Initialisation follows the official code, github.com/BlinkDL/RWKV-LM, RWKV-v5/rwkv_v6_demo.py, version x060. (Since
November 2024, after the published models, that repository's training code, src/model.py, starts the channel mix at
1 - p^(a^3) instead.) With p_i = i / D for channel i, l the layer's number, a = 1 - l / n_layers and
b = l / (n_layers - 1):

    mu_x, mu_w, mu_k = 1 - p^a      mu_v = 1 - p^a - 0.3 b      mu_r, mu_g = 1 - p^(a/2)
    w0_i = -6 + 5 (i / (D - 1))^(0.7 + 1.3 b)      u_i = b (1 - i / (D - 1)) + 0.1 ((i + 1) mod 3 - 1)
    low-rank pairs: the first matrix zero, the second uniform in +-0.01; group norm's gain ((l + 1) / n_layers)^0.7
    orthogonal with gain 1: receptance, value, the channel mix's key; with gain 0.1: key, gate
    zero: output, the channel mix's value and receptance

Shapes: B batch, T tokens of this call, D d_model, H heads, K head_dim, R shift_rank.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.basic import Tap, orthogonal_
from assay.layers.mixer import ExecutedFlops, SequenceLayer, Shared
from assay.layers.token_shift import ShiftState, last_input
from assay.ops.activations import silu, squared_relu
from assay.ops.execution import product_dtype
from assay.ops.layer_norm import layer_norm
from assay.ops.token_shift import mixtures, shift_difference, token_shift
from assay.ops.wkv6 import WKV6, wkv6, wkv6_flops

_GROUP_NORM_EPS = 64e-5
"""1e-5 times the square of the official code's head_size_divisor, 8."""


class RWKV6State(NamedTuple):
    """`shift` [B, D]: the last input, in the type of the activations; `wkv` [B, H, K, K], at least float32."""

    shift: Tensor
    wkv: Tensor


class RWKV6TimeMix(SequenceLayer):
    """Matrix-valued state with data-dependent decay and data-dependent token shift (section 4).

    The ranks of the published models are shift_rank 32 and decay_rank 64. `shift_taps` 0 to 4 see the mixing weights
    of w, k, v, r and g, `decay_tap` the log decays and `gate_tap` silu(g), all [B, T, D]. Without `token_shift` all
    five inputs are x.
    """

    # As in the official code, weight decay applies to the matrices of linear layers alone, not to low-rank pairs.
    decay_roles: ClassVar[Mapping[str, bool]] = {
        "mu_x": False,
        "mu": False,
        "shift_down": False,
        "shift_up": False,
        "decay_base": False,
        "decay_down": False,
        "decay_up": False,
        "bonus": False,
        "norm_weight": False,
        "norm_bias": False,
    }
    # The authors' time_decay, in src/model.py of the same folder, wherever layerwise_lr is on, as it is by default.
    rate_factors: ClassVar[Mapping[str, float]] = {"decay_base": 2.0}
    ops = (WKV6,)

    def __init__(
        self,
        d_model: int,
        head_dim: int,
        layer: int,
        n_layers: int,
        decay_rank: int = 64,
        shift_rank: int = 32,
        *,
        token_shift: bool = True,
    ) -> None:
        super().__init__()
        if d_model % head_dim:
            raise RequestError(f"d_model: {d_model} given, head_dim ({head_dim}) must divide it")
        self.layer = layer
        self.n_layers = n_layers
        self.token_shift = token_shift
        if token_shift:
            self.mu_x = nn.Parameter(torch.zeros(d_model))
            self.mu = nn.Parameter(torch.zeros(5, d_model))
            self.shift_down = nn.Parameter(torch.zeros(d_model, 5 * shift_rank))
            self.shift_up = nn.Parameter(torch.zeros(5, shift_rank, d_model))
        self.decay_base = nn.Parameter(torch.zeros(d_model))
        self.decay_down = nn.Parameter(torch.zeros(d_model, decay_rank))
        self.decay_up = nn.Parameter(torch.zeros(decay_rank, d_model))
        self.bonus = nn.Parameter(torch.zeros(d_model // head_dim, head_dim))
        self.norm_weight = nn.Parameter(torch.ones(d_model))
        self.norm_bias = nn.Parameter(torch.zeros(d_model))
        self.receptance, self.key, self.value, self.gate, self.output = (
            nn.Linear(d_model, d_model, bias=False) for _ in range(5)
        )
        self.shift_taps = nn.ModuleList(Tap() for _ in range(5 if token_shift else 0))
        self.decay_tap = Tap()
        self.gate_tap = Tap()

    @property
    def n_heads(self) -> int:
        """The equal parts that the input of the output projection falls into."""
        return len(self.bonus)

    def forward(
        self, x: Float[Tensor, "B T D"], state: RWKV6State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], RWKV6State]:
        x_w, x_k, x_v, x_r, x_g = self._mixed(x, None if state is None else state.shift)
        r, k, v = (
            linear(stream).unflatten(-1, self.bonus.shape)
            for linear, stream in ((self.receptance, x_r), (self.key, x_k), (self.value, x_v))
        )
        log_decay = self.decay_tap(self._log_decay(x_w)).unflatten(-1, self.bonus.shape)
        y, wkv = wkv6(r, k, v, log_decay, self.bonus, None if state is None else state.wkv, self.execution)
        gate = self.gate_tap(silu(self.gate(x_g)))
        return self.output(self._group_norm(y).to(gate.dtype) * gate), RWKV6State(last_input(x, self.token_shift), wkv)

    def _mixed(
        self, x: Float[Tensor, "B T D"], last: Float[Tensor, "B _"] | None
    ) -> tuple[Float[Tensor, "B T D"], ...]:
        """The inputs of w, k, v, r and g, token-shifted by data-dependent interpolation (the paper's ddlerp).

        x + (x_prev - x) * (mu + tanh(x' A) B) with x' = x + (x_prev - x) * mu_x; x_prev is x of the token before.
        """
        if not self.token_shift:
            return (x.to(product_dtype(x)),) * 5
        difference = shift_difference(x, last)
        low = torch.tanh(torch.addcmul(x, difference, self.mu_x.to(x.dtype)) @ self.shift_down)
        low = low.view(-1, *self.shift_up.shape[:2]).transpose(0, 1)
        mixes = torch.baddbmm(self.mu.to(low.dtype).unsqueeze(1), low, self.shift_up).unflatten(1, x.shape[:2])
        for tap, mix in zip(self.shift_taps, mixes, strict=True):
            tap(mix)
        return mixtures(x, difference, mixes).unbind()

    def _log_decay(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """-exp(w0 + tanh(x A) B), in float32 under autocast and never clamped."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        low = torch.tanh(x @ self.decay_down) @ self.decay_up
        return -torch.exp(self.decay_base.to(dtype) + low.to(dtype))

    def _group_norm(self, y: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        dtype = torch.promote_types(y.dtype, torch.float32)
        weight, bias = (part.unflatten(0, y.shape[-2:]) for part in (self.norm_weight, self.norm_bias))
        return layer_norm(y.to(dtype), weight, bias, _GROUP_NORM_EPS).flatten(-2)

    def initial_state(self, batch: int, capacity: int | None = None) -> RWKV6State:
        H, K = self.bonus.shape
        wkv_dtype = torch.promote_types(self.bonus.dtype, torch.float32)
        shift = self.bonus.new_zeros(batch, H * K if self.token_shift else 0)
        return RWKV6State(shift, self.bonus.new_zeros(batch, H, K, K, dtype=wkv_dtype))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        D = len(self.decay_base)
        depth = self.layer / max(self.n_layers - 1, 1)
        channel = torch.arange(D, dtype=torch.float64)
        across = channel / max(D - 1, 1)
        remaining = 1 - self.layer / self.n_layers
        lerp, late = 1 - (channel / D) ** remaining, 1 - (channel / D) ** (remaining / 2)
        if self.token_shift:
            self.mu_x.copy_(lerp)
            self.mu.copy_(torch.stack((lerp, lerp, lerp - 0.3 * depth, late, late)))
        self.decay_base.copy_(-6 + 5 * across ** (0.7 + 1.3 * depth))
        self.bonus.copy_((depth * (1 - across) + 0.1 * ((channel + 1) % 3 - 1)).view_as(self.bonus))
        for down, up in self._low_rank():
            nn.init.zeros_(down)
            nn.init.uniform_(up, -0.01, 0.01, generator=generator)
        nn.init.constant_(self.norm_weight, ((self.layer + 1) / self.n_layers) ** 0.7)
        nn.init.zeros_(self.norm_bias)
        for linear, gain in ((self.receptance, 1.0), (self.key, 0.1), (self.value, 1.0), (self.gate, 0.1)):
            orthogonal_(linear.weight, gain, generator)
        nn.init.zeros_(self.output.weight)

    def _low_rank(self) -> list[tuple[Tensor, Tensor]]:
        shift = [(self.shift_down, self.shift_up)] if self.token_shift else []
        return [*shift, (self.decay_down, self.decay_up)]

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight,)

    def flops_per_token(self, context: int) -> int:
        """Five projections 10 D^2, the low-rank pairs 20 D R and 4 D decay_rank, and the recurrence of H heads.

        A head costs K V to decay the state, 2 K V to add k v^T, 2 K V to read it, and 2 K + 2 V for the bonus, which
        is (r * u) . k times v, with V = K. Interpolations between neighbours are not counted, as activations are not.
        """
        H, K = self.bonus.shape
        D = H * K
        low_rank = sum(matrix.numel() for pair in self._low_rank() for matrix in pair)
        return 10 * D**2 + 2 * low_rank + H * (5 * K**2 + 4 * K)

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """Projections, low-rank pairs and `wkv6_flops`.

        Not counted, per token: 18 D for the token shift, 8 D for the group norm, 5 D for gate and decay.
        """
        H, K = self.bonus.shape
        D, shift = H * K, 18 if self.token_shift else 0
        counted = tokens * (self.flops_per_token(tokens) - H * (5 * K**2 + 4 * K))
        rule, uncounted = wkv6_flops(tokens, H, K, K, self.execution)
        uncounted |= {name: c * tokens * D for name, c in (("shift", shift), ("norm", 8), ("gates", 5))}
        return ExecutedFlops(counted + rule, uncounted)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """D elements of the last input and H K K of the state, at least 4 bytes each.

        The last input stays in float32 beside activations in bfloat16, as norms return it: what a segment begins with
        is then what the whole text has there.
        """
        H, K = self.bonus.shape
        shift = H * K if self.token_shift else 0
        return (shift + H * K**2) * max(bytes_per_element, 4)


class RWKV6ChannelMix(SequenceLayer):
    """sigmoid(W_r x_r) * W_v relu(W_k x_k)^2 on token-shifted inputs (section 4).

    `d_ff` None means 3.5 d_model, rounded down to a multiple of 32 as in the official code. Without `token_shift` both
    inputs are x.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {"mu_k": False, "mu_r": False}

    def __init__(self, d_model: int, d_ff: int | None, layer: int, n_layers: int, *, token_shift: bool = True) -> None:
        super().__init__()
        d_ff = int(3.5 * d_model) // 32 * 32 if d_ff is None else d_ff
        self.layer = layer
        self.n_layers = n_layers
        self.token_shift = token_shift
        if token_shift:
            self.mu_k = nn.Parameter(torch.zeros(d_model))
            self.mu_r = nn.Parameter(torch.zeros(d_model))
        self.key = nn.Linear(d_model, d_ff, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_ff, d_model, bias=False)
        self.gate_tap = Tap()

    def forward(
        self, x: Float[Tensor, "B T D"], state: ShiftState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], ShiftState]:
        x_k, x_r = self._mixed(x, None if state is None else state.shift)
        hidden = squared_relu(self.key(x_k))
        gate = self.gate_tap(torch.sigmoid(self.receptance(x_r)))
        return gate * self.value(hidden), ShiftState(last_input(x, self.token_shift))

    def _mixed(self, x: Float[Tensor, "B T D"], last: Float[Tensor, "B _"] | None) -> tuple[Tensor, ...]:
        """The inputs of key and receptance, [B, T, D]."""
        if not self.token_shift:
            return (x.to(product_dtype(x)),) * 2
        return token_shift(x, last, torch.stack((self.mu_k, self.mu_r))).unbind()

    def initial_state(self, batch: int, capacity: int | None = None) -> ShiftState:
        width = self.key.in_features if self.token_shift else 0
        return ShiftState(self.key.weight.new_zeros(batch, width))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        if self.token_shift:
            D = len(self.mu_k)
            lerp = 1 - (torch.arange(D, dtype=torch.float64) / D) ** (1 - self.layer / self.n_layers)
            self.mu_k.copy_(lerp)
            self.mu_r.copy_(lerp)
        orthogonal_(self.key.weight, 1.0, generator)
        nn.init.zeros_(self.receptance.weight)
        nn.init.zeros_(self.value.weight)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.value.weight,)

    def flops_per_token(self, context: int) -> int:
        """The three projections, 2 D^2 + 4 D d_ff."""
        return 2 * sum(layer.weight.numel() for layer in (self.key, self.receptance, self.value))

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """The three projections; not counted, per token: 5 D for the token shift, 2 d_ff for relu^2, 2 D for gates."""
        d_ff, D = self.key.weight.shape
        shift = 5 * tokens * D if self.token_shift else 0
        uncounted = {"shift": shift, "relu": 2 * tokens * d_ff, "gates": 2 * tokens * D}
        return ExecutedFlops(tokens * self.flops_per_token(tokens), uncounted)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """D elements of the last input, at least 4 bytes each."""
        return self.key.in_features * max(bytes_per_element, 4) if self.token_shift else 0
