"""An example of a user's own mixer: each channel keeps an exponential moving average with a data-dependent decay.

    h_t = a_t h_{t-1} + (1 - a_t) W_v x_t,  a_t = sigmoid(W_a x_t + b),  y_t = W_o (silu(W_g x_t) h_t)

b starts so that the channels' memories 1 / (1 - a) are 2 to 100 tokens. Shapes: B batch, T tokens, D d_model.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.basic import uniform_fan_in_
from assay.layers.mixer import SequenceLayer, Shared
from assay.model.architecture import Architecture, register


class MovingAverageState(NamedTuple):
    """The averages h so far, [B, D], zero before the first token."""

    average: Tensor


class MovingAverage(SequenceLayer):
    """A loop over tokens only; a faster form can be added once the idea has proven itself."""

    decay_roles: ClassVar = {"memory": False}

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.value, self.keep, self.gate, self.output = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.memory = nn.Parameter(torch.empty(d_model))

    def forward(
        self, x: Float[Tensor, "B T D"], state: MovingAverageState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], MovingAverageState]:
        (average,) = self.initial_state(len(x)) if state is None else state
        value, keep, averages = self.value(x), torch.sigmoid(self.keep(x) + self.memory), []
        for t in range(x.shape[1]):
            average = torch.lerp(value[:, t].to(average.dtype), average, keep[:, t].to(average.dtype))
            averages.append(average)
        y = self.output(F.silu(self.gate(x)) * torch.stack(averages, 1).to(value.dtype))
        return y, MovingAverageState(average)

    def initial_state(self, batch: int, capacity: int | None = None) -> MovingAverageState:
        dtype = torch.promote_types(self.memory.dtype, torch.float32)  # what sums up a sequence stays in float32
        return MovingAverageState(self.memory.new_zeros(batch, len(self.memory), dtype=dtype))

    def flops_per_token(self, context: int) -> int:
        return super().flops_per_token(context) + 4 * len(self.memory)  # matrices, and fading and renewing the average

    def reset_parameters(self, generator: torch.Generator) -> None:
        for linear in (self.value, self.keep, self.gate, self.output):
            uniform_fan_in_(linear.weight, generator)
        with torch.no_grad():
            self.memory.copy_(torch.linspace(0, math.log(99), len(self.memory)))


register(Architecture(name="moving-average", summary="A moving average with a data-dependent gate", citation="none",
                      mixer=lambda config, _: MovingAverage(config.d_model)))  # fmt: skip
