"""How the residual stream grows: its spread after the embedding and after each block."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import SignalProfile

AMPLIFIER = 1.5
DAMPER = 0.5
"""Document 000's thresholds on the last spread over the first."""


@torch.no_grad()
def measure_signals(model: LanguageModel, inputs: np.ndarray, plan: ExecutionPlan) -> SignalProfile:
    """Standard deviation and RMS over all positions and channels of `inputs` [N, T].

    Document 000 calls its ratio of standard deviations a variance; growth here is of standard deviations too, with
    the embedding (its number, which a tiny embedding inflates) and without.
    """
    captured: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, object]) -> None:
        captured.append((output if isinstance(output, Tensor) else output[0]).double())

    training = model.training
    model.eval()
    hooks = [module.register_forward_hook(keep) for module in (model.embedding, *model.blocks)]
    try:
        with plan.autocast():
            model.hidden(torch.from_numpy(inputs).to(plan.device))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    std = [float(x.std()) for x in captured]
    with_embedding, without = _growth(std[0], std[-1]), _growth(std[1], std[-1])
    return SignalProfile(
        std=std,
        rms=[float(x.square().mean().sqrt()) for x in captured],
        growth_with_embedding=with_embedding,
        growth_without_embedding=without,
        verdict_with_embedding=signal_verdict(with_embedding),
        verdict_without_embedding=signal_verdict(without),
    )


def signal_verdict(growth: float) -> Literal["AMPLIFIER", "DAMPER", "NEUTRAL"]:
    """Document 000's names for a growth."""
    return "AMPLIFIER" if growth > AMPLIFIER else "DAMPER" if growth < DAMPER else "NEUTRAL"


def _growth(first: float, last: float) -> float:
    return last / first if first > 0 else float("inf") if last > 0 else 1.0
