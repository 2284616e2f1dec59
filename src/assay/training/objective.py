"""From inputs and targets to nats: the one module that training calls, compiles and wraps for several devices.

Shapes: B batch, T tokens of a window.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.layers.auxiliary import auxiliary_losses
from assay.layers.mixer import Shared
from assay.layers.randomness import set_seed
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import summed_nats
from assay.targets import IGNORED


class Outcome(NamedTuple):
    """What one call of the objective comes to."""

    nats: Float[Tensor, ""]
    """Summed over the targets that are scored, in float32 or wider."""
    scored: Int[Tensor, ""]
    """How many they are."""
    auxiliary: dict[str, Float[Tensor, ""]]
    """The losses that layers declare, weighted, each a mean over the tokens of the call."""


class Objective(nn.Module):
    """Inputs [B, T], targets [B, T] (IGNORED where nothing is asked) and a seed -> summed nats and auxiliary losses.

    Whatever draws inside draws from the seed: the same seed, the same masks. Logits are formed at scored targets only.
    Runs in the precision of the plan; moving the model to its device is `ExecutionPlan.apply`'s.
    """

    def __init__(self, model: LanguageModel, plan: ExecutionPlan) -> None:
        super().__init__()
        self.model = model
        self.plan = plan

    def forward(self, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], seed: int | Int[Tensor, ""]) -> Outcome:
        shared: Shared = {}
        set_seed(self.model, torch.as_tensor(seed, device=inputs.device))
        try:
            with self.plan.autocast():
                hidden, _ = self.model.hidden(inputs, shared=shared)
                nats = summed_nats(hidden.flatten(0, 1), self.model.head_weight, targets.flatten())
        finally:
            set_seed(self.model, None)
        return Outcome(nats, (targets != IGNORED).sum(), auxiliary_losses(shared))
