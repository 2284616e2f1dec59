"""Compute efficiency: bits saved against the unigram floor per second, and document 004's ratio beside it."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from assay.records import StudyRecord
from assay.records.inference import ArmInference, Inference, Timing


class Rate(NamedTuple):
    """Per second: by the median time, and by the ends of the range over repetitions."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """ "4,096 (3,900 to 4,200)"."""
        return f"{self.value:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


class Efficiency(NamedTuple):
    """One arm; None where something that it takes was not measured."""

    label: str
    bits_saved_per_token: float
    """(unigram nats - the arm's nats) / ln 2; negative where the arm predicts worse than the unigram model."""
    prefill: "Rate | None"
    """Bits saved per second of reading: more is better."""
    generation: "Rate | None"
    """The same per second of generating."""
    document_004_cer: float | None
    """Perplexity / seconds of a prefill, as document 004 writes it: it rewards a worse perplexity."""

    def sentence(self) -> str:
        """All of it in words."""
        rates = [
            f"{rate.text()} per second of {what}"
            for rate, what in ((self.prefill, "prefill"), (self.generation, "generation"))
            if rate is not None
        ]
        said = f"{self.label} saves {self.bits_saved_per_token:.3f} bits a token against the unigram floor"
        said += f", {' and '.join(rates)}" if rates else ""
        if self.document_004_cer is None:
            return f"{said}."
        return f"{said}; document 004's CER, which rewards a worse perplexity, is {self.document_004_cer:,.4g}."


def efficiencies(study: StudyRecord, inference: Inference) -> list[Efficiency]:
    """Of every arm that has a score and was measured; none of a study without a unigram floor, as one of a task."""
    floor = study.floors.get("unigram")
    if floor is None:
        return []
    nats = {arm.label: arm.scores.nats_per_token.mean for arm in study.arms if arm.scores is not None}
    return list(_efficiencies(nats, floor.nats_per_token, inference).values())


def _efficiencies(nats: Mapping[str, float], floor_nats: float, inference: Inference) -> dict[str, Efficiency]:
    tokens = inference.protocol.prefill_tokens
    return {
        label: efficiency(label, nats[label], floor_nats, arm, tokens)
        for label, arm in inference.arms.items()
        if label in nats
    }


def efficiency(label: str, nats: float, floor_nats: float, arm: ArmInference, prefill_tokens: int) -> Efficiency:
    """Of one arm with `nats` per held-out token; `floor_nats` are those of the unigram model on the same targets."""
    bits = (floor_nats - nats) / math.log(2)
    return Efficiency(
        label,
        bits,
        _per_second(bits * prefill_tokens, arm.prefill),
        _per_second(bits, arm.generation),
        None if arm.prefill is None else math.exp(min(nats, 700.0)) / arm.prefill.median,
    )


def _per_second(amount: float, timing: Timing | None) -> Rate | None:
    if timing is None:
        return None
    ends = sorted(amount / seconds for seconds in (timing.low, timing.high))
    return Rate(amount / timing.median, ends[0], ends[1])
