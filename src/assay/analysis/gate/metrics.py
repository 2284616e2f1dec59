"""The point estimates that documents' rules ask for, from a gate's evidence; what was not measured is None."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.memory import LEARNED, why_not_told
from assay.records import RunRecord

BEFORE_A_SPIKE = 20
"""Steps whose mean loss a step's loss is compared with."""
SETTLED_SHARE = 0.1
"""Of the steps: losses before are of a model that has not begun to learn."""
ADVANTAGES = {"speed_ratio": "generation", "memory_ratio": "memory"}
"""Metric -> the key of the column that it is read from."""


def point_metrics(evidence: Evidence, candidate: str) -> dict[str, float | None]:
    """Each metric of `rule.METRICS` at the largest size that both have."""
    size = evidence.sizes[-1]
    ours, theirs = (_mean(evidence, label, size) for label in (candidate, evidence.baseline))
    below = _mean(evidence, candidate, evidence.sizes[-2]) if len(evidence.sizes) > 1 else None
    columns = {metric: _ratio(evidence, candidate, key, size) for metric, key in ADVANTAGES.items()}
    memory = columns["memory_ratio"]
    return {
        "loss_ratio": None if ours is None or theirs is None else ours / theirs,
        **_statefulness(evidence, candidate, size),
        "long_context_nats": _difference(evidence, candidate, "long_context", size),
        **columns,
        "memory_ratio": None if memory is None else 1 / memory,
        "spike_ratio": spike_ratio([run.record for run in evidence.runs.get((candidate, size), {}).values()]),
        "loss_over_size_below": None if ours is None or below is None else ours / below,
        "scaling_exponent": scaling_exponent(evidence, candidate),
    }


def spike_ratio(runs: Sequence[RunRecord]) -> float | None:
    """The highest ratio of a step's training loss to the mean of the steps just before it, over all runs."""
    ratios = []
    for run in runs:
        losses = [point.nats_per_token for point in run.training_curve]
        first = max(BEFORE_A_SPIKE, math.ceil(SETTLED_SHARE * len(losses)))
        before = [statistics.fmean(losses[at - BEFORE_A_SPIKE : at]) for at in range(first, len(losses))]
        ratios += [loss / mean for loss, mean in zip(losses[first:], before, strict=True) if mean > 0]
    return max(ratios) if ratios else None


def scaling_exponent(evidence: Evidence, label: str) -> float | None:
    """b of L = a N^-b without a floor, by least squares in logarithms, as the document fits it; N in parameters."""
    losses = [_mean(evidence, label, size) for size in evidence.sizes]
    known = [loss for loss in losses if loss is not None]
    if len(known) < max(2, len(losses)):
        return None
    counts = [evidence.arm(label, size).parameters for size in evidence.sizes]
    slope, _ = np.polyfit(np.log(counts), np.log(known), 1)
    return -float(slope)


def _statefulness(evidence: Evidence, candidate: str, size: int) -> dict[str, float | None]:
    """Of the gate's own data where these are conversations or mixed with them, else of the memory stage.

    Where the baseline stands at the floor a ratio would say anything: it counts as not measured.
    """
    of_data = _pair(evidence, candidate, "statefulness", size)
    if of_data is None and why_not_told("statefulness", evidence.memory, candidate, evidence.baseline) is None:
        arms = evidence.memory["statefulness"]
        ours, theirs = arms[candidate].mean, arms[evidence.baseline].mean
        of_data = None if ours is None or theirs is None else (ours, theirs)
    if of_data is None:
        return {"statefulness_ratio": None, "statefulness_difference": None}
    ours, theirs = of_data
    return {
        "statefulness_ratio": ours / theirs if theirs >= LEARNED else None,
        "statefulness_difference": ours - theirs,
    }


def _difference(evidence: Evidence, candidate: str, key: str, size: int) -> float | None:
    """Candidate less baseline of one column."""
    of = _pair(evidence, candidate, key, size)
    return None if of is None else of[0] - of[1]


def _ratio(evidence: Evidence, candidate: str, key: str, size: int) -> float | None:
    """Candidate over baseline of one column."""
    of = _pair(evidence, candidate, key, size)
    return None if of is None or not of[1] else of[0] / of[1]


def _pair(evidence: Evidence, candidate: str, key: str, size: int) -> tuple[float, float] | None:
    """One column of the candidate and of the baseline; None where one of them has none."""
    found = []
    for label in (candidate, evidence.baseline):
        values = [c.value for c in evidence.columns.get((label, size), ()) if c.key == key and c.value is not None]
        found.append(values[0] if values else None)
    ours, theirs = found
    return None if ours is None or theirs is None else (ours, theirs)


def _mean(evidence: Evidence, label: str, size: int) -> float | None:
    """None where a run diverged: a mean over the seeds that were left would look better than the arm is."""
    losses = evidence.losses(label, size)
    whole = losses and len(losses) == len(evidence.runs.get((label, size), {}))
    return statistics.fmean(losses.values()) if whole else None
