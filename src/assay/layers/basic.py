"""The small layers that architectures share: norms, taps for measurements, channel mixers without memory."""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.mixer import ExecutedFlops, Layer, SequenceLayer, Shared, State
from assay.ops.activations import gated_silu
from assay.ops.layer_norm import layer_norm
from assay.ops.rms_norm import rms_norm


class Tap(nn.Identity):
    """A named point where a measurement can hook an intermediate tensor; it changes nothing."""


class PathTap(Tap):
    """A tap on what one of several paths [B, T, D] adds to the output of a mixer, directly or through a fusion.

    What is measured of paths finds them by this class; a path is called as the attribute without `_tap` or `_path`.
    """


class RMSNorm(Layer):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 whatever comes in (Zhang and Sennrich 2019)."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"weight": False}

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return rms_norm(x, self.weight, self.eps)

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)


class LayerNorm(Layer):
    """(x - mean) / sqrt(var + eps) * weight + bias, in float32 whatever comes in (Ba et al. 2016)."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"weight": False, "bias": False}

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return layer_norm(x.unsqueeze(-2), self.weight[None], self.bias[None], self.eps).squeeze(-2)

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


def uniform_fan_in_(weight: Tensor, generator: torch.Generator) -> None:
    """Uniform in +-1/sqrt(fan_in), what torch.nn.Linear draws by default; fan_in is the last axis."""
    bound = 1 / math.sqrt(weight.shape[-1])
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def orthogonal_(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """gain * Q, from the QR of a normal matrix with R's diagonal made positive (Saxe et al. 2014); Q^T if it is wide.

    Computed in float64: the last bits of a QR depend on the number of threads and on the build of torch, and rounding
    to float32 removes them.
    """
    rows, columns = weight.shape
    normal = torch.empty(max(rows, columns), min(rows, columns), dtype=torch.float64)
    q, r = torch.linalg.qr(normal.normal_(0, 1, generator=generator))
    q = q * r.diagonal().sign()
    with torch.no_grad():
        weight.copy_(gain * (q if rows >= columns else q.T))


class ProjectionDraws(NamedTuple):
    """How a layer draws its matrices: `inner` those that read the residual stream, `output` those that add to it."""

    inner: Callable[[Tensor, torch.Generator], object] = uniform_fan_in_
    output: Callable[[Tensor, torch.Generator], object] = uniform_fan_in_


FAN_IN = ProjectionDraws()
"""What torch.nn.Linear draws by default."""


def gpt2_draws(n_layers: int) -> ProjectionDraws:
    """N(0, 0.02^2), and for matrices that add to the residual stream a standard deviation of 0.02 / sqrt(2 n_layers).

    2 n_layers is the number of residual layers, two per block (Radford et al. 2019, section 2.3).
    """

    def draw(std: float) -> Callable[[Tensor, torch.Generator], object]:
        return lambda weight, generator: nn.init.normal_(weight, 0.0, std, generator=generator)

    return ProjectionDraws(draw(0.02), draw(0.02 / math.sqrt(2 * n_layers)))


class ChannelMixer(SequenceLayer):
    """A layer that looks at one position only: its state is empty and costs nothing."""

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return ()

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return 0


class GeluMLP(ChannelMixer):
    """W2 gelu(W1 x), the MLP of GPT-1 and GPT-2.

    `approximate` "tanh" is 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016). GPT-2 has that
    and biases; the GPT-1 of document 000 (a research note on a GPT-1 baseline) has the exact GELU and no biases.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        approximate: Literal["none", "tanh"] = "none",
        bias: bool = False,
        draws: ProjectionDraws = FAN_IN,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)
        self.approximate = approximate
        self._draws = draws

    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        return self.down(F.gelu(self.up(x), approximate=self.approximate)), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        self._draws.inner(self.up.weight.data, generator)
        self._draws.output(self.down.weight.data, generator)
        for bias in (self.up.bias, self.down.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.down.weight,)

    def flops_per_token(self, context: int) -> int:
        return 2 * (self.up.weight.numel() + self.down.weight.numel())

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """2 per weight of the matrices. Not counted: 5 per channel for the exact GELU or 9 with tanh; 1 per bias."""
        uncounted = {"gelu": tokens * self.up.out_features * (9 if self.approximate == "tanh" else 5)}
        if self.up.bias is not None:
            uncounted["biases"] = tokens * (self.up.out_features + self.down.out_features)
        return ExecutedFlops(tokens * self.flops_per_token(1), uncounted)


class SwiGLU(ChannelMixer):
    """W2 (silu(W1 x) * W3 x), no biases (Shazeer 2020). With `body=common` every architecture's channel mixer."""

    def __init__(self, d_model: int, d_ff: int, draws: ProjectionDraws = FAN_IN) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)
        self._draws = draws

    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        return self.down(gated_silu(self.gate(x), self.up(x))), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        for layer in (self.gate, self.up):
            self._draws.inner(layer.weight.data, generator)
        self._draws.output(self.down.weight.data, generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.down.weight,)

    def flops_per_token(self, context: int) -> int:
        return 2 * sum(layer.weight.numel() for layer in (self.gate, self.up, self.down))

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """2 per weight of the matrices. Not counted, per hidden channel: 4 for SiLU (minus, exp, plus, divide), 1 for
        the product.
        """
        hidden = tokens * self.up.out_features
        return ExecutedFlops(tokens * self.flops_per_token(1), {"silu": 4 * hidden, "product": hidden})
