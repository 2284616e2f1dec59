"""Mamba-2's mixer: projections, a short convolution and a state space with one decay per head (Dao and Gu 2024).

Shapes: B batch, T tokens of this call, D d_model, E = expand D, H heads, P head width, N state width, G groups,
W filter width, C = E + 2 G N channels of the convolution.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import RequestError
from assay.layers.basic import Tap, uniform_fan_in_
from assay.layers.mixer import ExecutedFlops, Layer, SequenceLayer, Shared
from assay.ops.activations import silu
from assay.ops.convolution import CONVOLUTION, causal_convolution, convolution_flops
from assay.ops.execution import product_dtype
from assay.ops.ssd import SSD, Factors, ssd, ssd_flops

DECAY_RATE_RANGE = (1.0, 16.0)
DT_RANGE = (1e-3, 1e-1)
DT_FLOOR = 1e-4


class Mamba2State(NamedTuple):
    """The last W - 1 inputs of the convolution [B, W - 1, C] ([B, 0, C] without one), and the state S [B, H, P, N] in
    float32 or wider.
    """

    convolution: Tensor
    ssm: Tensor


class GroupRMSNorm(Layer):
    """x / sqrt(mean(x^2) + eps) * weight, the mean over each of `n_groups` parts of x, in float32 or wider."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"weight": False}

    def __init__(self, width: int, n_groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.n_groups = n_groups
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        groups = x.to(dtype).unflatten(-1, (self.n_groups, -1))
        scale = torch.rsqrt(torch.linalg.vecdot(groups, groups) / groups.shape[-1] + self.eps)
        normed: Tensor = (groups * scale[..., None]).flatten(-2)
        return (normed * self.weight.to(dtype)).to(x.dtype)

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)


class Mamba2(SequenceLayer):
    """out_proj(norm((SSD(dt x, -dt exp(A_log), b, c) + D x) silu(z))).

    z, x, b, c and dt are projections of the input; x, b and c pass the convolution and SiLU first. In the published
    model this is the whole block: no MLP follows. Layout and initialisation are those of the authors' module;
    `n_layers` is the number of residual branches that out_proj's initialisation is scaled for. `conv_width` 0 leaves
    the convolution out, with its bias; SiLU stays.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {
        "conv_weight": True,
        "conv_bias": False,
        "dt_bias": False,
        "A_log": False,
        "D": False,
    }
    conv_weight: nn.Parameter | None
    conv_bias: nn.Parameter | None

    def __init__(
        self,
        d_model: int,
        d_state: int,
        head_dim: int,
        expand: int = 2,
        n_groups: int = 1,
        conv_width: int = 4,
        *,
        n_layers: int,
    ) -> None:
        super().__init__()
        d_inner = expand * d_model
        if d_inner % head_dim:
            raise RequestError(f"head_dim: {head_dim} given, it must divide expand * d_model ({d_inner})")
        n_heads = d_inner // head_dim
        if n_heads % n_groups:
            raise RequestError(f"n_groups: {n_groups} given, it must divide the number of heads ({n_heads})")
        self.head_dim, self.d_state, self.n_groups, self.n_layers = head_dim, d_state, n_groups, n_layers
        channels = d_inner + 2 * n_groups * d_state
        self.in_proj = nn.Linear(d_model, d_inner + channels + n_heads, bias=False)
        self.ops = (CONVOLUTION, SSD) if conv_width else (SSD,)
        self.channels, self.conv_width = channels, conv_width
        self.register_parameter("conv_weight", nn.Parameter(torch.empty(channels, conv_width)) if conv_width else None)
        self.register_parameter("conv_bias", nn.Parameter(torch.empty(channels)) if conv_width else None)
        self.dt_bias = nn.Parameter(torch.empty(n_heads))
        self.A_log = nn.Parameter(torch.empty(n_heads))
        self.D = nn.Parameter(torch.empty(n_heads))
        self.norm = GroupRMSNorm(d_inner, n_groups)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        self.gate, self.dt, self.log_decay = Tap(), Tap(), Tap()

    @property
    def n_heads(self) -> int:
        """The equal parts that the input of the output projection falls into."""
        return len(self.D)

    def forward(
        self, x: Float[Tensor, "B T D"], state: Mamba2State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], Mamba2State]:
        d_inner, n_heads = self.out_proj.in_features, len(self.D)
        z, xbc, raw_dt = self.in_proj(x).split([d_inner, self.channels, n_heads], -1)
        if self.conv_weight is None:
            conv_state = xbc.new_empty(len(xbc), 0, self.channels)
        else:
            xbc, conv_state = causal_convolution(
                xbc, self.conv_weight, self.conv_bias, state and state.convolution, self.execution
            )
        value, b, c = silu(xbc).split([d_inner, *[self.n_groups * self.d_state] * 2], -1)
        # In float32 from here, where products of two types and bfloat16's SiLU would take three times as long on a CPU.
        dtype = torch.promote_types(x.dtype, torch.float32)
        value = value.unflatten(-1, (n_heads, self.head_dim))
        b, c = (part.unflatten(-1, (self.n_groups, self.d_state)) for part in (b, c))

        dt = self.dt(F.softplus(raw_dt.to(dtype) + self.dt_bias.to(dtype)))
        log_decay = self.log_decay(-self.A_log.to(dtype).exp() * dt)
        factors = Factors(dt, self.D.to(dtype))
        y, ssm_state = ssd(value, log_decay, b, c, state and state.ssm, self.execution, factors)
        y = self.norm(y.flatten(2) * self.gate(silu(z.to(dtype))))
        return self.out_proj(y.to(product_dtype(x))), Mamba2State(conv_state, ssm_state)

    def initial_state(self, batch: int, capacity: int | None = None) -> Mamba2State:
        dtype = torch.promote_types(self.D.dtype, torch.float32)
        return Mamba2State(
            self.D.new_zeros(batch, max(self.conv_width - 1, 0), self.channels),
            self.D.new_zeros(batch, len(self.D), self.head_dim, self.d_state, dtype=dtype),
        )

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """As published: decay rates uniform, dt log-uniform, the rest as torch draws it, out_proj / sqrt(n_layers)."""
        uniform_fan_in_(self.in_proj.weight, generator)
        if self.conv_weight is not None and self.conv_bias is not None:
            uniform_fan_in_(self.conv_weight, generator)
            bound = 1 / math.sqrt(self.conv_width)
            nn.init.uniform_(self.conv_bias, -bound, bound, generator=generator)
        nn.init.uniform_(self.A_log, *DECAY_RATE_RANGE, generator=generator)
        self.A_log.log_()
        nn.init.uniform_(self.dt_bias, math.log(DT_RANGE[0]), math.log(DT_RANGE[1]), generator=generator)
        dt = self.dt_bias.exp().clamp(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus(dt_bias) = dt
        nn.init.ones_(self.D)
        self.norm.reset_parameters(generator)
        uniform_fan_in_(self.out_proj.weight, generator)
        self.out_proj.weight.div_(math.sqrt(self.n_layers))

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.out_proj.weight,)

    def flops_per_token(self, context: int) -> int:
        """2 per weight of the projections, 2 W per channel of the convolution, and 5 P N per head at any context.

        A head multiplies its state by the decay (P N), adds x b^T (2 P N) and reads with c (2 P N). The products
        with dt, D and the gate are elementwise and not counted.
        """
        projections = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        return projections + 2 * self.conv_width * self.channels + 5 * self.out_proj.in_features * self.d_state

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """Projections and `ssd_flops`; the convolution's 2 W C per token are counted in the loop form alone.

        Not counted, per token: 8 E for dt, D, gate and norm.
        """
        E = self.out_proj.in_features
        convolution, more = convolution_flops(tokens, self.channels, self.conv_width)
        projections = 2 * tokens * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        rule, uncounted = ssd_flops(tokens, len(self.D), self.head_dim, self.d_state, self.n_groups, self.execution)
        uncounted["gates"] = 8 * tokens * E
        return ExecutedFlops(projections + rule + convolution, uncounted | more)

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        inputs = max(self.conv_width - 1, 0) * self.channels
        return inputs * bytes_per_element + self.out_proj.in_features * self.d_state * max(4, bytes_per_element)
