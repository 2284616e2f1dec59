"""The small layers every architecture shares: norms, taps, channel mixers without memory."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.mixer import Layer, SequenceLayer, Shared, State


class Tap(nn.Identity):
    """A named point where a measurement can hook an intermediate tensor; it changes nothing."""


class RMSNorm(Layer):
    """x / sqrt(mean(x^2) + eps) * weight, in float32 whatever comes in (Zhang and Sennrich 2019)."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"weight": False}

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(dtype), self.weight.shape, self.weight.to(dtype), self.eps).to(x.dtype)

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
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return F.layer_norm(x.to(dtype), weight.shape, weight, bias, self.eps).to(x.dtype)

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


def uniform_fan_in_(weight: Tensor, generator: torch.Generator) -> None:
    """Uniform in +-1/sqrt(fan_in), what torch.nn.Linear draws by default; fan_in is the last axis."""
    bound = 1 / math.sqrt(weight.shape[-1])
    nn.init.uniform_(weight, -bound, bound, generator=generator)


class ChannelMixer(SequenceLayer):
    """A layer that looks at one position only: its state is empty and costs nothing."""

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return ()

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return 0


class GeluMLP(ChannelMixer):
    """W2 gelu(W1 x), exact GELU, no biases: the channel mixer of document 000's GPT-1."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        return self.down(F.gelu(self.up(x))), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        for layer in (self.up, self.down):
            uniform_fan_in_(layer.weight, generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.down.weight,)

    def flops_per_token(self, context: int) -> int:
        return 2 * (self.up.weight.numel() + self.down.weight.numel())


class SwiGLU(ChannelMixer):
    """W2 (silu(W1 x) * W3 x), no biases (Shazeer 2020): the channel mixer of the common body."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        return self.down(F.silu(self.gate(x)) * self.up(x)), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        for layer in (self.gate, self.up, self.down):
            uniform_fan_in_(layer.weight, generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.down.weight,)

    def flops_per_token(self, context: int) -> int:
        return 2 * sum(layer.weight.numel() for layer in (self.gate, self.up, self.down))
