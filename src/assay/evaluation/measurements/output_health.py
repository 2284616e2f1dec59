"""What the output distribution looks like on held-out text: range, saturation, entropy, overconfidence.

The oldest rule comes from document 000, the oldest of the research documents that this project grew out of, which
judged a model by its most certain prediction and by its mean entropy. It stands beside the verdict, as older results
were told in its words.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from assay.data.scoring import ScoringWindows
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.scoring import ScoredBatch
from assay.records import Column, Record
from assay.targets import IGNORED

OVERCONFIDENT_NATS = 0.1
SATURATED = 0.99
UNIFORM = 0.95
"""A mean entropy above this share of ln V is hardly less than that of a model that says nothing."""
CERTAIN_BELOW_NATS = 2.0
"""The oldest rule's threshold on the mean entropy."""
MAX_TOKENS = 8_192
"""Targets that are looked at, first windows first."""
LOGITS = 4_194_304
"""Alive at once."""
KEPT = ("low", "high", "peak", "entropy", "loss")


class OutputHealth(Record):
    """What the output distribution looks like on held-out text."""

    logit_low: float
    logit_high: float
    max_probability: float
    share_above_099: float
    entropy_nats: float
    entropy_share: float
    """Mean entropy over ln V."""
    loss_minus_entropy_nats: float
    verdict: Literal["HEALTHY", "OVERCONFIDENT", "NEAR UNIFORM"]
    oldest_rule_verdict: str
    """What document 000's rule says."""


class Distributions(Reader):
    """Of each of the first targets: the lowest and highest logit, the highest probability, entropy and loss."""

    def __init__(self, windows: ScoringWindows) -> None:
        self.rows = max(1, MAX_TOKENS // windows.inputs.shape[1])
        self.scored = windows.targets[: self.rows] != IGNORED
        self.seen = {name: np.zeros(self.scored.shape) for name in KEPT}
        self.vocab_size = 0

    def read(self, batch: ScoredBatch) -> None:
        mine = (batch.rows < self.rows)[:, None] & (batch.targets != IGNORED)
        if not mine.any():
            return
        row, position = np.nonzero(mine)
        places = (batch.rows[row], position)
        device = batch.hidden.device
        hidden = batch.hidden[torch.from_numpy(row).to(device), torch.from_numpy(position).to(device)]
        targets = torch.from_numpy(batch.targets[row, position]).to(device)
        self.vocab_size = self.vocab_size or batch.logits(hidden[:1]).shape[-1]
        size = max(1, LOGITS // self.vocab_size)
        parts = [
            _numbers(batch.logits(h), target) for h, target in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        for name in KEPT:
            self.seen[name][places] = torch.cat([part[name] for part in parts]).double().cpu().numpy()


class MeasureOutputHealth(Measurement[OutputHealth]):
    """A calibrated model's mean loss equals its mean entropy; OVERCONFIDENT where it is more than 0.1 nats above."""

    name = "output_health"
    version = 2  # NEAR UNIFORM is new
    question = "Does the output distribution fit the text, or is it overconfident?"
    unit = "nats per token"
    group = "character"
    needs = frozenset({"trained"})
    record = OutputHealth

    def readers(self, given: Given) -> Sequence[Reader]:
        return [Distributions(given.held_out)]

    def measure(self, given: Given, readers: Sequence[Distributions]) -> OutputHealth:
        reader = readers[0]
        return summarise({name: values[reader.scored] for name, values in reader.seen.items()}, reader.vocab_size)

    def columns(self, values: OutputHealth) -> list[Column]:
        excess = values.loss_minus_entropy_nats
        return [
            Column(key="verdict", head="output", format="text", text=values.verdict, usual="HEALTHY"),
            Column(key="excess", head="excess nats", format="nats", value=excess, under="verdict"),
        ]


def summarise(seen: dict[str, np.ndarray], vocab_size: int) -> OutputHealth:
    """The record of the numbers of each target."""
    entropy = float(seen["entropy"].mean())
    excess = float(seen["loss"].mean()) - entropy
    return OutputHealth(
        logit_low=float(seen["low"].min()),
        logit_high=float(seen["high"].max()),
        max_probability=float(seen["peak"].max()),
        share_above_099=float((seen["peak"] > SATURATED).mean()),
        entropy_nats=entropy,
        entropy_share=entropy / math.log(vocab_size),
        loss_minus_entropy_nats=excess,
        verdict=verdict(excess, entropy / math.log(vocab_size)),
        oldest_rule_verdict=oldest_rule_verdict(float(seen["peak"].max()), entropy),
    )


def verdict(excess_nats: float, entropy_share: float) -> Literal["HEALTHY", "OVERCONFIDENT", "NEAR UNIFORM"]:
    """Overconfidence first; a model that is sure of nothing is not called healthy."""
    if excess_nats > OVERCONFIDENT_NATS:
        return "OVERCONFIDENT"
    return "NEAR UNIFORM" if entropy_share > UNIFORM else "HEALTHY"


def oldest_rule_verdict(max_probability: float, entropy_nats: float) -> str:
    """Document 000's own rule: any probability above 0.99, then a mean entropy under two nats."""
    if max_probability > SATURATED:
        return "saturating"
    return "overconfident" if entropy_nats < CERTAIN_BELOW_NATS else "healthy"


def _numbers(logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is kept of logits [n, V] and targets [n]."""
    log_p = logits.log_softmax(-1)
    return {
        "low": logits.min(-1).values,
        "high": logits.max(-1).values,
        "peak": log_p.max(-1).values.exp(),
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "loss": -log_p.gather(-1, target[:, None])[:, 0],
    }


register(MeasureOutputHealth())
