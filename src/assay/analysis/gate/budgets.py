"""The losses of a gate's arms at smaller budgets, where runs of its schedule branch; no torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from assay.analysis.gate.tuned import runs_in
from assay.analysis.statistics import mean_interval
from assay.records import Interval, MeasuredRun
from assay.records.gate import Arm, AtBudget, GatePlan, GateRecord

Branches = Mapping[tuple[str, int], Mapping[int, Mapping[int, MeasuredRun]]]
"""(arm, size) -> budget in tokens -> seed -> run."""
Losses = Mapping[int, float]
"""Seed -> nats per token."""


class Point(NamedTuple):
    """One arm at one size and one budget."""

    arm: str
    size: int
    tokens: int
    share: float
    """Of the tokens of the judged runs."""
    losses: Losses
    over_seeds: Interval | None
    """Student's, at 95%; None where a run diverged."""
    against_baseline: Interval | None
    """The difference from the baseline's at the same size and budget, paired by seed; None of the baseline itself, and
    where a run of either diverged."""


def read_branches(folder: Path, plan: GatePlan) -> Branches:
    """The runs to smaller budgets that the gate in `folder` has carried out."""
    found: dict[tuple[str, int], dict[int, dict[int, MeasuredRun]]] = {}
    for stage in plan.stages:
        for budget in stage.budgets if stage.kind == "branches" else ():
            for run in runs_in(folder / stage.name / f"tokens-{budget}"):
                of_arm = found.setdefault((run.record.label, stage.size), {})
                of_arm.setdefault(budget, {})[run.record.seed] = run
    return found


def at_budgets(of_arm: Mapping[int, Mapping[int, MeasuredRun]]) -> list[AtBudget]:
    """Of one arm at one size, ascending."""
    found = []
    for budget, runs in sorted(of_arm.items()):
        losses = losses_of(runs)
        found.append(AtBudget(tokens=budget, losses=losses, diverged=len(runs) - len(losses)))
    return found


def losses_of(runs: Mapping[int, MeasuredRun]) -> dict[int, float]:
    """Seed -> test nats per token, of the runs that have them."""
    found = {}
    for seed, run in runs.items():
        scores = run.likelihood("test")
        if scores is not None and run.record.status == "finished" and math.isfinite(scores.nats_per_token):
            found[seed] = scores.nats_per_token
    return found


def budget_curve(record: GateRecord) -> list[Point]:
    """Size by size and arm by arm, tokens ascending; of the arms that have smaller budgets."""
    found = []
    for size in sorted({arm.size for arm in record.arms}):
        known = {arm.label: _by_budget(arm) for arm in record.arms if arm.size == size and arm.budgets}
        theirs = known.get(record.baseline, {})
        for label, of_arm in known.items():
            whole = max(of_arm)
            for tokens, losses in of_arm.items():
                other = theirs.get(tokens) if label != record.baseline else None
                found.append(
                    Point(
                        arm=label,
                        size=size,
                        tokens=tokens,
                        share=tokens / whole,
                        losses=losses or {},
                        over_seeds=mean_interval(list(losses.values())) if losses else None,
                        against_baseline=_apart(losses, other) if losses and other else None,
                    )
                )
    return found


def _by_budget(arm: Arm) -> dict[int, Losses | None]:
    """Tokens -> losses, None where a run diverged."""
    budgets = {of.tokens: None if of.diverged else of.losses for of in arm.budgets}
    return {**budgets, arm.tokens: None if arm.diverged else arm.losses}


def _apart(ours: Losses, theirs: Losses) -> Interval | None:
    apart = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return mean_interval(apart) if apart else None
