"""A forward pass that can be gone on with from any block, so that what comes before a change is computed once.

Shapes: B sequences, T tokens, D d_model.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.layers.mixer import Shared
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import token_nats


class Resumable:
    """One pass of `model` over `ids`, with what every block was given: its input, and what earlier layers published."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, ids: Int[Tensor, "B T"], plan: ExecutionPlan) -> None:
        self.model, self.plan = model, plan
        self.given: list[tuple[Tensor, Shared]] = []

        def keep(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            self.given.append((arguments[0], dict(arguments[2])))

        hooks = [block.register_forward_pre_hook(keep) for block in model.sequence_blocks()]
        try:
            with plan.autocast():
                self.hidden: Float[Tensor, "B T D"] = model.hidden(ids)[0]
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def resumed(self, block: int) -> Float[Tensor, "B T D"]:
        """The last hidden states, computed again from number `block` on, with whatever hooks there are now."""
        x, published = self.given[block]
        shared = dict(published)
        with self.plan.autocast():
            for part in self.model.sequence_blocks()[block:]:
                x, _ = part(x, None, shared)
            last: Tensor = self.model.norm(x)
        return last


@torch.no_grad()
def window_nats(
    model: LanguageModel, hidden: Float[Tensor, "B T D"], targets: Int[Tensor, "B T"], plan: ExecutionPlan
) -> Float[Tensor, " B"]:
    """Summed nats of the targets of each sequence, float64 on the CPU."""
    with plan.autocast():
        nats = token_nats(hidden.flatten(0, 1), model.head_weight, targets.flatten())
    return nats.view(targets.shape).double().sum(1).cpu()
