"""The objective, from inputs and targets to nats: the module that training calls, compiles or wraps for many devices.

Shapes: B batch, T tokens of a window.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.layers.auxiliary import auxiliary_losses
from assay.layers.mixer import Shared
from assay.layers.randomness import numbered_maskings, set_seed
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import summed_nats
from assay.ops.native.kernels import native_ops
from assay.targets import IGNORED


class Outcome(NamedTuple):
    """The result of one call of the objective."""

    nats: Float[Tensor, ""]
    """The cross-entropy in nats, summed over the scored targets, in float32 or wider."""
    scored: Int[Tensor, ""]
    """The number of scored targets."""
    auxiliary: dict[str, Float[Tensor, ""]]
    """The auxiliary losses of layers, weighted, each a mean over the tokens of the call."""


class Objective(nn.Module):
    """Inputs [B, T], targets [B, T] (IGNORED where there is none) and a seed -> summed nats and auxiliary losses.

    All random draws inside depend on the seed: the same seed gives the same masks. Logits are computed only at scored
    targets. It runs in the precision of the plan; `ExecutionPlan.apply` moves the model to its device.
    """

    def __init__(self, model: LanguageModel, plan: ExecutionPlan) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self._compiled: Callable[..., Outcome] | None = None

    def forward(self, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], seed: int | Int[Tensor, ""]) -> Outcome:
        # A graph of more than the objective has the Python forms: the compiler cannot look into the switch.
        switch = nullcontext() if torch.compiler.is_compiling() else native_ops(self.plan.native)
        with self.plan.autocast(), switch:
            return (self._compiled or self._compute)(inputs, targets, torch.as_tensor(seed, device=inputs.device))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """torch.compile in place, of what runs in the plan's precision: graphs that enter autocast are not cached."""
        self._compiled = torch.compile(self._compute, *args, **kwargs)

    def uncompile(self) -> None:
        """Undo `compile`."""
        self._compiled = None

    def _compute(self, inputs: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], seed: Int[Tensor, ""]) -> Outcome:
        shared: Shared = {}
        stochastic = numbered_maskings(self.model)
        set_seed(stochastic, seed)
        try:
            hidden, _ = self.model.hidden(inputs, shared=shared)
            nats = summed_nats(hidden.flatten(0, 1), self.model.head_weight, targets.flatten())
        finally:
            set_seed(stochastic, None)
        return Outcome(nats, (targets != IGNORED).sum(), auxiliary_losses(shared))
