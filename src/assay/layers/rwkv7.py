"""RWKV-7 "Goose": time mix and channel mix as published (Peng et al. 2025, arXiv 2503.14456, section 4).

Initialisation is that of the official training code (github.com/BlinkDL/RWKV-LM, RWKV-v7/train_temp, as of August 2026;
its biases date from May 2025, after the paper): train.py takes its weights from `generate_init_weight` in src/model.py,
which draws the matrices of linear layers once more. With p_i = i / D and q_i = i / (D - 1) for channel i,
z_j = 2 j / (head_dim - 1) - 1 for channel j of a head, l the layer's number, f = 1 - l / n_layers and
e = l / (n_layers - 1):

    mu_r, mu_g = 1 - p^(0.2 f)      mu_w, mu_a = 1 - p^(0.9 f)      mu_k, mu_v = 1 - p^(0.7 f)
    decay w0 = -5.5 + 6 q^(1 + e^0.3) + 2.5 z |z|      rate a0 = -0.19 + 0.3 z |z| + 0.4 (q - 0.5)
    value gate v0 = 0.73 - 0.4 (q - 0.5)      removal 0.71 - 0.1 (q - 0.5)      replacement 1.02      bonus -0.04
    low-rank pairs: the first matrix zero, the second orthogonal with gain 0.1 (times sqrt(R / D) where R > D)
    group norm's gain ((l + 1) / n_layers)^0.7
    orthogonal with gain 1: receptance, value, the channel mix's key; with gain 0.1: key
    zero: output, the channel mix's value; the channel mix's mu_k = 1 - p^(f^4)

Shapes: B batch, T tokens of this call, D d_model, H heads, K head_dim, R a rank.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.basic import Tap, orthogonal_
from assay.layers.mixer import ExecutedFlops, Layer, SequenceLayer, Shared
from assay.layers.token_shift import ShiftState, last_input
from assay.ops.activations import squared_relu
from assay.ops.execution import product_dtype
from assay.ops.layer_norm import layer_norm
from assay.ops.rms_norm import rms_norm
from assay.ops.token_shift import token_shift
from assay.ops.wkv7 import WKV7, wkv7, wkv7_flops

VALUE_FIRST = "rwkv7.value_first"
"""The name in `shared` under which the first RWKV-7 layer publishes its values [B, T, D] for the later ones."""

_GROUP_NORM_EPS = 64e-5
_LONGEST_LOG_DECAY = -math.exp(-0.5)


class Ranks(NamedTuple):
    """Ranks of the low-rank pairs of decay, in-context learning rate, value residual and gate."""

    decay: int
    rate: int
    value: int
    gate: int


def official_ranks(d_model: int) -> Ranks:
    """2.5, 2.5, 1.7 and 5 times sqrt(D), rounded to multiples of 32, at least 32: the training code since July 2025.

    At D 768 they are 64, 64, 32 and 128, as in the published model.
    """
    return Ranks(*(max(32, round(factor * math.sqrt(d_model) / 32) * 32) for factor in (2.5, 2.5, 1.7, 5)))


class RWKV7State(NamedTuple):
    """`shift` [B, D]: the last input, in the type of the activations; `wkv` [B, H, K, K], at least float32."""

    shift: Tensor
    wkv: Tensor


class LowRank(Layer):
    """base + up f(down x): a bias and a low-rank function of x. The layer that owns it draws `base`, if it has one."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"base": False, "down": False, "up": False}
    base: nn.Parameter | None

    def __init__(self, d_model: int, rank: int, *, activation: nn.Module, bias: bool = True) -> None:
        super().__init__()
        self.register_parameter("base", nn.Parameter(torch.zeros(d_model)) if bias else None)
        self.down = nn.Parameter(torch.zeros(d_model, rank))
        self.up = nn.Parameter(torch.zeros(rank, d_model))
        self.activation = activation

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """In float32 or wider where there is a bias: a sigmoid follows, often near 0 or 1, where precision matters."""
        y: Tensor = self.activation(x @ self.down) @ self.up
        if self.base is None:
            return y
        dtype = torch.promote_types(y.dtype, torch.float32)
        return self.base.to(dtype) + y.to(dtype)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.down)
        rank, d_model = self.up.shape
        orthogonal_(self.up, 0.1 * max(1.0, math.sqrt(rank / d_model)), generator)

    def set_base(self, base: Tensor) -> None:
        """Overwrite the bias with `base` [D]."""
        if self.base is not None:
            self.base.data.copy_(base)

    def flops_per_token(self) -> int:
        return 2 * (self.down.numel() + self.up.numel())


class DecayLowRank(LowRank):
    """The decay's: the authors train its base (their w0) at twice the learning rate."""

    rate_factors: ClassVar[Mapping[str, float]] = {"base": 2.0}


def _of_length_one(x: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K"]:
    """x / sqrt(sum(x^2) + 1e-24) over the last axis; the authors divide by the norm, or by 1e-12 where it is less."""
    K = x.shape[-1]
    return rms_norm(x, x.new_full((K,), 1 / math.sqrt(K)), 1e-24 / K)


class RWKV7TimeMix(SequenceLayer):
    """Generalised delta rule; decay, removal key and in-context learning rate are per channel (section 4, time mixing).

    The `first` of these layers in a model publishes its values in `shared`; each later one interpolates its own values
    towards them. A later layer that finds none published does as the first: it uses and publishes its own. `ranks` None
    means `official_ranks`. The taps see, all [B, T, D]: the log decays, the in-context learning rates, the share of the
    first layer's values (`value_tap`, in later layers only) and the gate. Without `token_shift` all six inputs are x.
    """

    # As in the official code, weight decay applies to the matrices of linear layers alone, not to low-rank pairs.
    decay_roles: ClassVar[Mapping[str, bool]] = {
        "mu": False,
        "removal": False,
        "replacement": False,
        "bonus": False,
        "norm_weight": False,
        "norm_bias": False,
    }
    ops = (WKV7,)

    def __init__(
        self,
        d_model: int,
        head_dim: int,
        layer: int,
        n_layers: int,
        first: bool,
        ranks: Ranks | None = None,
        *,
        token_shift: bool = True,
    ) -> None:
        super().__init__()
        if d_model % head_dim:
            raise RequestError(f"d_model: {d_model} given, head_dim ({head_dim}) must divide it")
        ranks = ranks or official_ranks(d_model)
        self.layer = layer
        self.n_layers = n_layers
        self.token_shift = token_shift
        if token_shift:
            self.mu = nn.Parameter(torch.zeros(6, d_model))
        self.decay = DecayLowRank(d_model, ranks.decay, activation=nn.Tanh())
        self.rate = LowRank(d_model, ranks.rate, activation=nn.Identity())
        self.value_gate = None if first else LowRank(d_model, ranks.value, activation=nn.Identity())
        self.gate = LowRank(d_model, ranks.gate, activation=nn.Sigmoid(), bias=False)
        self.removal = nn.Parameter(torch.zeros(d_model))
        self.replacement = nn.Parameter(torch.zeros(d_model))
        self.bonus = nn.Parameter(torch.zeros(d_model // head_dim, head_dim))
        self.norm_weight = nn.Parameter(torch.ones(d_model))
        self.norm_bias = nn.Parameter(torch.zeros(d_model))
        self.receptance, self.key, self.value, self.output = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.decay_tap, self.rate_tap, self.gate_tap = Tap(), Tap(), Tap()
        self.value_tap = None if first else Tap()

    @property
    def n_heads(self) -> int:
        """The equal parts that the input of the output projection falls into."""
        return len(self.bonus)

    def forward(
        self, x: Float[Tensor, "B T D"], state: RWKV7State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], RWKV7State]:
        heads = self.bonus.shape
        x_r, x_w, x_k, x_v, x_a, x_g = self._mixed(x, None if state is None else state.shift)
        log_decay = self.decay_tap(_LONGEST_LOG_DECAY * torch.sigmoid(self.decay(x_w)))
        rate = self.rate_tap(torch.sigmoid(self.rate(x_a)))
        r, k, v = self.receptance(x_r), self.key(x_k), self._values(x_v, shared)
        r, k = r.to(rate.dtype), k.to(rate.dtype)
        removal = _of_length_one((k * self.removal).unflatten(-1, heads))
        k = k * (1 + (rate - 1) * self.replacement)

        r, k, v, log_decay, rate = (part.unflatten(-1, heads) for part in (r, k, v, log_decay, rate))
        wkv = None if state is None else state.wkv
        y, wkv = wkv7(r, log_decay, k, v, -removal, removal * rate, wkv, self.execution)
        y = self._group_norm(y) + ((r * k * self.bonus).sum(-1, keepdim=True) * v.to(rate.dtype)).flatten(-2)
        gate = self.gate_tap(self.gate(x_g))
        return self.output(y.to(gate.dtype) * gate), RWKV7State(last_input(x, self.token_shift), wkv)

    def _mixed(self, x: Float[Tensor, "B T D"], last: Float[Tensor, "B _"] | None) -> tuple[Tensor, ...]:
        """The inputs of r, w, k, v, a and g, [B, T, D]."""
        if not self.token_shift:
            return (x.to(product_dtype(x)),) * 6
        return token_shift(x, last, self.mu).unbind()

    def _values(self, x: Float[Tensor, "B T D"], shared: Shared | None) -> Float[Tensor, "B T D"]:
        """W_v x; in later layers interpolated, by a gate, towards the values that the first layer published."""
        v: Tensor = self.value(x)
        first = v if shared is None else shared.setdefault(VALUE_FIRST, v)
        if self.value_gate is None or self.value_tap is None:
            return v
        share: Tensor = self.value_tap(torch.sigmoid(self.value_gate(x)))
        return v + (first - v) * share.to(v.dtype)

    def _group_norm(self, y: Float[Tensor, "B T H K"]) -> Float[Tensor, "B T D"]:
        dtype = torch.promote_types(y.dtype, torch.float32)
        weight, bias = (part.unflatten(0, y.shape[-2:]) for part in (self.norm_weight, self.norm_bias))
        return layer_norm(y.to(dtype), weight, bias, _GROUP_NORM_EPS).flatten(-2)

    def initial_state(self, batch: int, capacity: int | None = None) -> RWKV7State:
        H, K = self.bonus.shape
        wkv_dtype = torch.promote_types(self.bonus.dtype, torch.float32)
        shift = self.bonus.new_zeros(batch, H * K if self.token_shift else 0)
        return RWKV7State(shift, self.bonus.new_zeros(batch, H, K, K, dtype=wkv_dtype))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        (H, K), D = self.bonus.shape, len(self.removal)
        early, depth = 1 - self.layer / self.n_layers, self.layer / max(self.n_layers - 1, 1)
        channel = torch.arange(D, dtype=torch.float64)
        across = channel / max(D - 1, 1)
        zigzag = ((2 * torch.arange(K, dtype=torch.float64) - (K - 1)) / max(K - 1, 1)).repeat(H)
        zigzag = zigzag * zigzag.abs()
        if self.token_shift:
            self.mu.copy_(torch.stack([1 - (channel / D) ** (c * early) for c in (0.2, 0.9, 0.7, 0.7, 0.9, 0.2)]))
        for pair in (self.decay, self.rate, self.value_gate, self.gate):
            if pair is not None:
                pair.reset_parameters(generator)
        self.decay.set_base(-5.5 + 6 * across ** (1 + depth**0.3) + 2.5 * zigzag)
        self.rate.set_base(-0.19 + 0.3 * zigzag + 0.4 * (across - 0.5))
        if self.value_gate is not None:
            self.value_gate.set_base(0.73 - 0.4 * (across - 0.5))
        self.removal.copy_(0.71 - 0.1 * (across - 0.5))
        nn.init.constant_(self.replacement, 1.02)
        nn.init.constant_(self.bonus, -0.04)
        nn.init.constant_(self.norm_weight, ((self.layer + 1) / self.n_layers) ** 0.7)
        nn.init.zeros_(self.norm_bias)
        for linear, gain in ((self.receptance, 1.0), (self.key, 0.1), (self.value, 1.0)):
            orthogonal_(linear.weight, gain, generator)
        nn.init.zeros_(self.output.weight)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.output.weight,)

    def _projections(self) -> int:
        """FLOPs of a token in four projections, 8 D^2, and the low-rank pairs, 4 D R each."""
        pairs = [pair for pair in (self.decay, self.rate, self.value_gate, self.gate) if pair is not None]
        return 8 * len(self.removal) ** 2 + sum(pair.flops_per_token() for pair in pairs)

    def flops_per_token(self, context: int) -> int:
        """Projections 8 D^2, low-rank pairs 4 D R each, and the recurrence of H heads.

        A head costs K V to decay the state, 2 K V each to form a^T S, to add b (a^T S) and k v^T, and to read it, and
        2 K + 2 V for the bonus, with V = K. Interpolations, norms and gates are not counted, as activations are not.
        """
        H, K = self.bonus.shape
        return self._projections() + H * (9 * K**2 + 4 * K)

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """Projections and `wkv7_flops`.

        Not counted, per token: 13 D for the token shift; 5 D for the bonus; 12 D for gates, keys and their norm; 8 D
        for the group norm.
        """
        H, K = self.bonus.shape
        D, shift = H * K, 13 if self.token_shift else 0
        rule, uncounted = wkv7_flops(tokens, H, K, K, self.execution)
        uncounted |= {name: c * tokens * D for name, c in (("shift", shift), ("bonus", 5), ("gates", 12), ("norm", 8))}
        return ExecutedFlops(tokens * self._projections() + rule, uncounted)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """D elements of the last input and H K K of the state, at least 4 bytes each.

        The last input stays in float32 beside activations in bfloat16, as norms return it: what a segment begins with
        is then what the whole text has there.
        """
        H, K = self.bonus.shape
        shift = H * K if self.token_shift else 0
        return (shift + H * K**2) * max(bytes_per_element, 4)


class RWKV7ChannelMix(SequenceLayer):
    """W_v relu(W_k x_k)^2 on a token-shifted input (section 4, MLP). `d_ff` is 4 d_model in the published models.

    Without `token_shift` the input is x.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {"mu_k": False}

    def __init__(self, d_model: int, d_ff: int, layer: int, n_layers: int, *, token_shift: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.n_layers = n_layers
        self.token_shift = token_shift
        if token_shift:
            self.mu_k = nn.Parameter(torch.zeros(d_model))
        self.key = nn.Linear(d_model, d_ff, bias=False)
        self.value = nn.Linear(d_ff, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: ShiftState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], ShiftState]:
        x_k = x.to(product_dtype(x))
        if self.token_shift:
            x_k = token_shift(x, None if state is None else state.shift, self.mu_k[None]).squeeze(0)
        return self.value(squared_relu(self.key(x_k))), ShiftState(last_input(x, self.token_shift))

    def initial_state(self, batch: int, capacity: int | None = None) -> ShiftState:
        width = self.key.in_features if self.token_shift else 0
        return ShiftState(self.key.weight.new_zeros(batch, width))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        if self.token_shift:
            D = len(self.mu_k)
            self.mu_k.copy_(1 - (torch.arange(D, dtype=torch.float64) / D) ** ((1 - self.layer / self.n_layers) ** 4))
        orthogonal_(self.key.weight, 1.0, generator)
        nn.init.zeros_(self.value.weight)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.value.weight,)

    def flops_per_token(self, context: int) -> int:
        """The two projections, 4 D d_ff."""
        return 2 * (self.key.weight.numel() + self.value.weight.numel())

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """The two projections; not counted, per token: 3 D for the token shift, 2 d_ff for the squared relu."""
        d_ff, D = self.key.weight.shape
        shift = 3 * tokens * D if self.token_shift else 0
        return ExecutedFlops(tokens * self.flops_per_token(tokens), {"shift": shift, "relu": 2 * tokens * d_ff})

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """D elements of the last input, at least 4 bytes each."""
        return self.key.in_features * max(bytes_per_element, 4) if self.token_shift else 0
