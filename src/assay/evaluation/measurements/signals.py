"""How the residual stream grows: its spread after the embedding and after each block, untrained and trained."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Column, FigurePoint, MeasuredFigure, Record

AMPLIFIER = 1.5
DAMPER = 0.5
"""The thresholds of document 000, the oldest of the research documents that this project grew out of, on the last
spread over the first."""

SignalVerdict = Literal["AMPLIFIER", "DAMPER", "NEUTRAL"]


class SignalProfile(Record):
    """The residual stream after the embedding and after each block, over all positions and channels."""

    std: list[float]
    rms: list[float]
    growth_with_embedding: float
    """Last std over the embedding's."""
    growth_without_embedding: float
    """Last std over block 0's."""
    verdict_with_embedding: SignalVerdict
    verdict_without_embedding: SignalVerdict
    logits_std: float | None = None
    """Over the vocabulary, root mean square over positions; None in results of version 1."""


class Signals(Record):
    """Of the untrained and of the trained weights; None where there are none."""

    initial: SignalProfile | None
    trained: SignalProfile | None


class MeasureSignals(Measurement[Signals]):
    """Standard deviation and RMS by depth, and the logits', over some validation windows."""

    name = "signals"
    version = 2
    question = "How does the residual stream grow with depth?"
    unit = "standard deviation"
    group = "signals"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = Signals

    def measure(self, given: Given, readers: Sequence[Reader]) -> Signals:
        inputs = _fullest(given)
        initial, trained = (
            measure_profile(given.model(need), inputs, given.plan) if need in given.models else None
            for need in ("initial", "trained")
        )
        return Signals(initial=initial, trained=trained)

    def columns(self, values: Signals) -> list[Column]:
        trained, initial = values.trained, values.initial
        growth = None if trained is None else trained.growth_without_embedding
        with_embedding = None if trained is None else trained.growth_with_embedding
        verdict = None if trained is None else trained.verdict_without_embedding
        before = None if initial is None else initial.verdict_without_embedding
        stream = None if initial is None else initial.std[-1]
        logits = None if initial is None else initial.logits_std
        return [
            Column(key="growth", head="growth", format="ratio", value=growth),
            Column(
                key="growth_with_embedding", head="w/ embedding", format="ratio", value=with_embedding, under="growth"
            ),
            Column(key="verdict", head="signal", format="text", text=verdict, usual="NEUTRAL"),
            Column(
                key="initial_verdict", head="untrained", format="text", text=before, usual="NEUTRAL", under="verdict"
            ),
            Column(key="initial_stream", head="initial std", format="number", value=stream),
            Column(key="initial_logits", head="of logits", format="number", value=logits, under="initial_stream"),
        ]

    def figures(self, values: Signals) -> list[MeasuredFigure]:
        moments = {"trained": values.trained, "initial": values.initial}
        return [
            MeasuredFigure(
                name="growth",
                title="Residual stream by depth",
                caption="Standard deviation over positions and channels on held-out text, at initialisation and after "
                "training. A straight rise on the log scale is growth by a constant factor a block.",
                kind="lines",
                x_title="blocks passed (emb.: after the embedding)",
                x_called="depth",
                x_names={"0": "emb."},
                y_title="standard deviation (log scale)",
                y_scale="log",
                unit="std",
                series=list(moments),
                series_called="when",
                points=[
                    FigurePoint(x=depth, y=std, series=when)
                    for when, profile in moments.items()
                    if profile is not None
                    for depth, std in enumerate(profile.std)
                    if std > 0
                ],
            )
        ]


def _fullest(given: Given) -> Int[np.ndarray, "n T"]:
    """The fullest of the first validation windows, cut to a common length."""
    lengths = given.validation.lengths
    rows = np.sort(np.argsort(-lengths, kind="stable")[: given.evaluation.signal_windows])
    inputs: np.ndarray = given.validation.inputs[rows][:, : int(lengths[rows].min())]
    return inputs


@torch.no_grad()
def measure_profile(model: LanguageModel, inputs: Int[np.ndarray, "n T"], plan: ExecutionPlan) -> SignalProfile:
    """Standard deviation and RMS over all positions and channels of `inputs` [N, T].

    Document 000 calls its ratio of standard deviations a variance; growth here is of standard deviations too, with
    the embedding (its number, which a tiny embedding inflates) and without. Logits are compared over the vocabulary, as
    a softmax does not see what all of them share.
    """
    captured: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, object]) -> None:
        captured.append((output if isinstance(output, Tensor) else output[0]).double())

    training = model.training
    model.eval()
    hooks = [module.register_forward_hook(keep) for module in (model.embedding, *model.blocks)]
    try:
        with plan.autocast():
            hidden, _ = model.hidden(torch.from_numpy(inputs).to(plan.device))
            squares = [model.head(row).double().var(-1, unbiased=False).mean() for row in hidden]  # logits may be large
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
        logits_std=float(torch.stack(squares).mean().sqrt()),
    )


def signal_verdict(growth: float) -> SignalVerdict:
    """Document 000's names for a growth."""
    return "AMPLIFIER" if growth > AMPLIFIER else "DAMPER" if growth < DAMPER else "NEUTRAL"


def _growth(first: float, last: float) -> float:
    return last / first if first > 0 else float("inf") if last > 0 else 1.0


register(MeasureSignals())
