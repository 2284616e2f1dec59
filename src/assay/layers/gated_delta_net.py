"""Gated DeltaNet's mixer: DeltaNet whose memory also decays, by one data-dependent factor per head (Yang et al. 2024).

    S_t = a_t S_{t-1} + beta_t k_t (v_t - a_t S_{t-1}^T k_t)^T,    y_t = S_t^T q_t / sqrt(K),
    a_t = exp(-exp(A_log) softplus(decay_proj x_t + dt_bias))

(arXiv 2412.06464, eq. 10 and section 3.4.) Layout and initialisation are those of the authors' library
(flash-linear-attention, fla/layers/gated_deltanet.py and fla/models/gated_deltanet). Shapes as in delta_net.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.basic import Tap
from assay.layers.delta_net import DeltaNet
from assay.ops.delta_rule import ErrorTaken

DECAY_RATE_RANGE = (0.0, 16.0)
SMALLEST_DECAY_RATE = 1e-4
"""The least decay rate drawn: A_log is its logarithm, which must be finite."""
DT_RANGE = (1e-3, 1e-1)


class GatedDeltaNet(DeltaNet):
    """DeltaNet with a decay, and with an output gate unless told otherwise. Options as in DeltaNet.

    `error` "after" computes the write's error v - S^T k from the memory after its decay, as published; "before" from
    the memory before its decay, as in document 001, the research note on the GroundThink hybrid. `log_decay_tap`
    [B, T, H] sees log a.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {**DeltaNet.decay_roles, "A_log": False, "dt_bias": False}

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        key_dim: int,
        value_dim: int,
        *,
        n_value_heads: int | None = None,
        conv_width: int = 4,
        output_gate: bool = True,
        negative_eigenvalues: bool = False,
        error: ErrorTaken = "after",
    ) -> None:
        super().__init__(
            d_model,
            n_heads,
            key_dim,
            value_dim,
            n_value_heads=n_value_heads,
            conv_width=conv_width,
            output_gate=output_gate,
            negative_eigenvalues=negative_eigenvalues,
        )
        self.error = error
        self.decay_proj = nn.Linear(d_model, self.n_value_heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(self.n_value_heads))
        self.dt_bias = nn.Parameter(torch.empty(self.n_value_heads))
        self.log_decay_tap = Tap()

    def _log_decay(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H"]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        dt = F.softplus(self.decay_proj(x).to(dtype) + self.dt_bias.to(dtype))
        log_decay: Tensor = self.log_decay_tap(-self.A_log.to(dtype).exp() * dt)
        return log_decay

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """DeltaNet's, with decay rates exp(A_log) uniform in 0...16 and dt log-uniform in 1e-3...1e-1."""
        super().reset_parameters(generator)
        nn.init.uniform_(self.A_log, *DECAY_RATE_RANGE, generator=generator)
        self.A_log.clamp_(min=SMALLEST_DECAY_RATE).log_()
        nn.init.uniform_(self.dt_bias, math.log(DT_RANGE[0]), math.log(DT_RANGE[1]), generator=generator)
        dt = self.dt_bias.exp()
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus(dt_bias) = dt

    def flops_per_token(self, context: int) -> int:
        """DeltaNet's, and K V per value head to decay the state."""
        return super().flops_per_token(context) + self.n_value_heads * self.key_dim * self.value_dim
