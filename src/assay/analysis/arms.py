"""What a study's record says of one arm: its scores and measurements over the seeds."""

import hashlib
import math
import statistics
from collections.abc import Sequence

from assay.analysis.contests import Contest
from assay.analysis.entrants import Entrant
from assay.analysis.statistics import mean_interval, perplexity_interval
from assay.records import Arm, Likelihood, RunRecord, SignalProfile, Speed, TestScores


def arm(entrant: Entrant, contest: Contest, level: float, speed: Speed | None) -> Arm:
    """The record of `entrant`, an arm of `contest`, with intervals at `level`."""
    memory = [run.peak_memory_bytes for run in entrant.runs.values()]
    profiles = [run.signals_trained for run in entrant.finished if run.signals_trained is not None]
    chains = "".join(run.data_chain for run in entrant.runs.values())
    scores = _scores(list(entrant.scores.values()), level)
    return Arm(
        label=entrant.label,
        architecture=entrant.any.architecture,
        replicate=entrant.any.replicate,
        group=entrant.point.group,
        size=entrant.point.size,
        learning_rate=entrant.point.learning_rate,
        selected=contest.selected.get(entrant.label),
        validation_nats=entrant.validation_nats,
        seeds=list(entrant.runs),
        diverged=entrant.diverged,
        unsound=entrant.unsound,
        rank=contest.rank(entrant),
        parameters=entrant.any.parameters,
        flops_per_token=entrant.any.flops_per_token.forward,
        state_bytes=entrant.any.state_bytes,
        test=scores if entrant.split == "test" else None,
        validation=scores if entrant.split == "validation" else None,
        speed=speed,
        peak_memory_bytes=None if None in memory else max(bytes_ for bytes_ in memory if bytes_ is not None),
        data_chain=hashlib.sha256(chains.encode()).hexdigest(),
        growth_with_embedding=_mean([profile.growth_with_embedding for profile in profiles]),
        growth_without_embedding=_mean([profile.growth_without_embedding for profile in profiles]),
        signal_verdict=_signal_verdict(profiles),
        output_verdict=_output_verdict(entrant.finished),
    )


def _scores(of: Sequence[Likelihood], level: float) -> TestScores | None:
    if not of:
        return None
    nats = [scores.nats_per_token for scores in of]
    bits = [scores.bits_per_byte for scores in of if scores.bits_per_byte is not None]
    return TestScores(
        nats_per_token=mean_interval(nats, level),
        perplexity=perplexity_interval(nats, level),
        bits_per_byte=mean_interval(bits, level) if len(bits) == len(of) else None,
    )


def _signal_verdict(profiles: Sequence[SignalProfile]) -> str | None:
    growth = _mean([profile.growth_without_embedding for profile in profiles])
    if growth is None:
        return None
    return "AMPLIFIER" if growth > 1.5 else "DAMPER" if growth < 0.5 else "NEUTRAL"


def _output_verdict(runs: Sequence[RunRecord]) -> str | None:
    verdicts = [run.output_health.verdict for run in runs if run.output_health is not None]
    if not verdicts:
        return None
    wrong = verdicts.count("OVERCONFIDENT")
    if not wrong:
        return "HEALTHY"
    return "OVERCONFIDENT" if wrong == len(verdicts) else f"OVERCONFIDENT {wrong}/{len(verdicts)}"


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite and len(finite) == len(values) else None
