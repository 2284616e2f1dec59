"""Document 004's smoke tests and checklist, judged from short runs of an arm and of its baseline; no torch."""

import math
import statistics
from collections.abc import Iterator, Sequence

from pydantic import Field

from assay.config import Config
from assay.records.sanity import SanityFinding, ShortRun

LAST = 0.2
"""The share of a short run's steps whose mean loss is where it has come."""
SPIKE_WINDOW = 20
"""A loss is held against the mean of so many before it."""


class SanityLimits(Config):
    """How much is trained, and what each check asks."""

    share: float = Field(0.01, gt=0, le=1)
    """The part of the scale's tokens that both read."""
    least_steps: int = Field(50, ge=SPIKE_WINDOW + 1)
    """Of that part: 1% of a small run is no training at all."""
    overfit_tokens: int = Field(1_000, ge=2)
    overfit_steps: int = Field(400, ge=1)
    overfit_nats: float = Field(0.1, gt=0)
    """Near zero: at most so much above what no model can get below."""
    fall_ratio: float = Field(1.5, gt=1)
    """Falls are alike where the baseline's is at most so many times the arm's."""
    norm_ratio: float = Field(10.0, gt=1)
    """Norms are of the same order within this factor."""
    spike_ratio: float = Field(2.0, gt=1)
    """A loss of over so many times the mean before it is a spike: document 004's red line."""


def judge_part(arm: ShortRun, baseline: ShortRun, vocab_size: int, limits: SanityLimits) -> list[SanityFinding]:
    """What a part of the data says: losses that fall alike, smooth curves, gradient norms of the same order."""
    return [
        _falls_alike(arm, baseline, vocab_size, limits),
        _smooth(arm, limits),
        _same_order(arm, baseline, limits),
    ]


def judge_overfitting(
    arm: ShortRun, baseline: ShortRun, tokens: int, floor_nats: float, limits: SanityLimits
) -> SanityFinding:
    """Whether both learn a few tokens by heart; `floor_nats` is what no model gets below, see `ambiguity_nats`."""
    limit = floor_nats + limits.overfit_nats
    reached = {run.label: math.inf if run.validation_nats is None else run.validation_nats for run in (arm, baseline)}
    failed = [label for label, nats in reached.items() if not nats <= limit]
    words = " and ".join(f"{label} {nats:.3f}" for label, nats in reached.items())
    reason = f"on {tokens:,} tokens read again and again the loss ends at {words} nats; {limit:.3f} is near zero there"
    if baseline.label in failed:
        reason += "; the baseline does not get there either, so that rate or steps are at fault, not the arm alone"
    return _finding(
        "overfits", not failed, reason, {"arm": reached[arm.label], "baseline": reached[baseline.label]}, limit
    )


def judge_below(
    label: str, here: Sequence[float], below: Sequence[float], what: str = "on a part of the data"
) -> SanityFinding:
    """Whether the arm is better than the same arm at the rung below, in nats of the same text, seed by seed.

    With several seeds the mean of their paired differences must lie over two standard errors below zero.
    """
    differences = [a - b for a, b in zip(here, below, strict=True)]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
    numbers = {"difference": mean, "standard_error": error, "seeds": float(len(differences))}
    reason = (
        f"{what} {label} has {statistics.fmean(here):.3f} nats a token and {statistics.fmean(below):.3f} at the rung "
        f"below: {mean:+.3f}" + (f", standard error {error:.3f}" if len(differences) > 1 else ", one seed")
    )
    return _finding("better than the rung below", mean + 2 * error < 0, reason, numbers, 0.0)


def fall(run: ShortRun, vocab_size: int) -> float:
    """Nats that the loss has fallen to the mean of the last fifth of steps, from ln V or where it began below.

    From ln V, so that a bad beginning is no credit; -inf where the run diverged.
    """
    if run.status == "diverged":
        return -math.inf
    last = max(1, round(LAST * len(run.nats)))
    return min(run.nats[0], math.log(vocab_size)) - statistics.fmean(run.nats[-last:])


def spike(nats: Sequence[float]) -> float:
    """The largest loss over the mean of the twenty before it; 1 for a curve of fewer."""
    ratios = [nats[at] / statistics.fmean(nats[at - SPIKE_WINDOW : at]) for at in range(SPIKE_WINDOW, len(nats))]
    return max(ratios, default=1.0)


def _falls_alike(arm: ShortRun, baseline: ShortRun, vocab_size: int, limits: SanityLimits) -> SanityFinding:
    ours, theirs = fall(arm, vocab_size), fall(baseline, vocab_size)
    numbers = {"arm": ours, "baseline": theirs, "steps": float(len(arm.nats))}
    reason = f"in {len(arm.nats)} steps the loss of {arm.label} falls by {ours:.3f} nats"
    reason += f", that of {baseline.label} by {theirs:.3f}"
    if not theirs > 0:
        return _finding(
            "losses fall alike", False, f"{reason}; the baseline learns nothing to be held against", numbers
        )
    if ours > limits.fall_ratio * theirs:
        reason += f"; over {limits.fall_ratio:g} times as much, which the audit must explain"
    return _finding(
        "losses fall alike", ours * limits.fall_ratio >= theirs, reason, numbers, theirs / limits.fall_ratio
    )


def _smooth(arm: ShortRun, limits: SanityLimits) -> SanityFinding:
    if arm.status == "diverged" or not all(map(math.isfinite, arm.nats)):
        return _finding("smooth", False, f"{arm.label} diverged after {len(arm.nats)} steps", {})
    largest = spike(arm.nats)
    reason = f"the largest loss of {arm.label} is {largest:.2f} times the mean of the {SPIKE_WINDOW} before it"
    return _finding("smooth", largest <= limits.spike_ratio, reason, {"spike": largest}, limits.spike_ratio)


def _same_order(arm: ShortRun, baseline: ShortRun, limits: SanityLimits) -> SanityFinding:
    name = "gradient norms of the same order"
    if broken := [run.label for run in (arm, baseline) if not all(map(math.isfinite, run.gradient_norms))]:
        return _finding(name, False, f"the gradient of {' and '.join(broken)} is not finite somewhere", {})
    ours, theirs = (statistics.median(run.gradient_norms) for run in (arm, baseline))
    ratio = ours / theirs if theirs > 0 else math.inf
    reason = f"the median gradient norm of {arm.label} is {ours:.3g}, that of {baseline.label} {theirs:.3g}"
    numbers = {"ratio": ratio, "arm": ours, "baseline": theirs, "largest": max(arm.gradient_norms)}
    return _finding(name, 1 / limits.norm_ratio <= ratio <= limits.norm_ratio, reason, numbers, limits.norm_ratio)


def _finding(
    check: str, passed: bool, reason: str, numbers: dict[str, float], limit: float | None = None
) -> SanityFinding:
    return SanityFinding(check=check, status="pass" if passed else "fail", reason=reason, numbers=numbers, limit=limit)


def ambiguity_nats(windows: Sequence[tuple[Sequence[int], Sequence[int]]], ignored: int) -> float:
    """The mean nats that no model gets below on (inputs, targets): targets that differ behind equal inputs.

    Several windows may begin alike and go on otherwise, so that learning by heart does not end at zero.
    """
    behind: dict[tuple[int, ...], list[int]] = {}
    for inputs, targets in windows:
        for prefix, target in _prefixes(inputs, targets):
            if target != ignored:
                behind.setdefault(prefix, []).append(target)
    total = sum(map(len, behind.values()))
    nats = sum(-math.log(of.count(target) / len(of)) for of in behind.values() if len(of) > 1 for target in of)
    return nats / total if total else 0.0


def _prefixes(inputs: Sequence[int], targets: Sequence[int]) -> Iterator[tuple[tuple[int, ...], int]]:
    return ((tuple(inputs[: at + 1]), target) for at, target in enumerate(targets))
