"""Which learning rate an arm has at each size, from the gate's tuning runs alone: no stopwatch, no choice by hand.

At the smallest size every arm runs once with each rate of one grid, and its rate is the lowest point of a parabola in
log rate. The next size starts from that rate and its neighbours on both sides. Larger sizes keep what was found there.
A rate that is taken to a larger size falls by 2^-0.4 for every doubling (`tuning.SHIFT`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.analysis.scaling.tuning import Chosen, choose
from assay.records import MeasuredRun
from assay.records.gate import GatePlan, Stage

MOST_EXTENSIONS = 2
"""How often a grid is extended at an end."""


def runs_in(folder: Path) -> list[MeasuredRun]:
    """Those that have ended there."""
    return [MeasuredRun.read(path.parent) for path in sorted(folder.glob("runs/*/record.json"))]


def validation_loss(run: MeasuredRun) -> float | None:
    """Nats per token on the validation split at the end of training; None where the run diverged."""
    last = run.record.validation_curve[-1] if run.record.validation_curve else None
    ended = last is not None and last.step == run.record.steps and run.record.status == "finished"
    return last.nats_per_token if last is not None and ended else None


class Tried(NamedTuple):
    """The tuning runs of one arm at one size."""

    rates: tuple[float, ...]
    """Ascending."""
    losses: tuple[float | None, ...]
    """On the validation split; None of a run that diverged."""
    planned_nats: float
    """The spread of one run that the plan knew."""
    doublings: float = 0.0
    """The runs decide the rate of a size so many times twice theirs."""

    def chosen(self, noise_nats: float | None = None) -> Chosen:
        """The rate, and what it leaves uncertain by the spread that judged runs had, or else by the planned one."""
        return choose(self.rates, self.losses, noise_nats or self.planned_nats, self.planned_nats, self.doublings)


def tried_at(folder: Path, stage: Stage, planned_nats: float) -> dict[str, Tried]:
    """Arm -> the runs of one tuning stage and its extensions; an arm of which none finished is left out."""
    found: dict[str, dict[float, float | None]] = {}
    for place in [folder / stage.name, *sorted(folder.glob(f"{stage.name}-wider*"))]:
        for run in runs_in(place):
            label = run.record.label.rpartition("@lr=")[0]
            rate = float(run.record.spec["training"]["learning_rate"])
            found.setdefault(label, {})[rate] = validation_loss(run)
    tried = {}
    for label, losses in found.items():
        rates = sorted(losses)
        if len(rates) >= 3 and any(loss is not None for loss in losses.values()):
            tried[label] = Tried(tuple(rates), tuple(losses[rate] for rate in rates), planned_nats)
    return tried


def chosen_at(folder: Path, stage: Stage, planned_nats: float, size: int | None = None) -> dict[str, Chosen]:
    """Arm -> its rate by the runs of one tuning stage, for `size` where that is a larger one."""
    doublings = math.log2((size or stage.size) / stage.size)
    tried = tried_at(folder, stage, planned_nats)
    return {label: of._replace(doublings=doublings).chosen() for label, of in tried.items()}


def rates_around(chosen: Mapping[str, Chosen], grid: Sequence[float]) -> dict[str, list[float]]:
    """Arm -> its rate and one on each side, as far off as two rates of the grid are."""
    step = (max(grid) / min(grid)) ** (1 / (len(grid) - 1))
    return {label: [rounded(of.rate / step), rounded(of.rate), rounded(of.rate * step)] for label, of in chosen.items()}


def rounded(rate: float) -> float:
    """Three digits, as it is written."""
    return float(f"{rate:.3g}")


def tuning_by_size(folder: Path, plan: GatePlan) -> dict[tuple[str, int], Tried]:
    """(arm, size) -> the runs that its rate is from, for every size of the plan, the top one too."""
    grid = next(stage for stage in plan.stages if stage.kind == "tuning")
    check = next(stage for stage in plan.stages if stage.kind == "check")
    at_first, at_second = (tried_at(folder, stage, plan.noise.nats) for stage in (grid, check))
    found = {}
    for size in [*plan.sizes, plan.top_size]:
        for label, tried in (at_first if size == grid.size else at_second).items():
            found[label, size] = tried._replace(doublings=max(0.0, math.log2(size / check.size)))
    return found
