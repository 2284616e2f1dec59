"""An arm with its runs over the seeds: what was asked of it, which runs count, and what they scored."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from assay.records import ArmAudit, Likelihood, MeasuredRun, Results, RunRecord, Split


@dataclass(frozen=True)
class Point:
    """Where an arm stands in its study."""

    group: str
    """The arm that was asked for; those of one group and size are the points of its grid."""
    size: int | None = None
    """The size that was asked for it."""
    learning_rate: float | None = None


@dataclass(frozen=True)
class Entrant:
    """The runs of one arm, by seed."""

    label: str
    point: Point
    measured: Mapping[int, MeasuredRun]
    split: Split
    """What it is scored on."""
    unsound: str | None = None
    """What an audit found, or None."""

    @cached_property
    def runs(self) -> dict[int, RunRecord]:
        """The records of its runs."""
        return {seed: run.record for seed, run in self.measured.items()}

    @property
    def any(self) -> RunRecord:
        """One of its runs, for what all of them share."""
        return next(iter(self.runs.values()))

    @cached_property
    def scores(self) -> dict[int, Likelihood]:
        """The scores by seed. A run whose nats are not finite counts as diverged, whatever its status says."""
        of = {seed: run.likelihood(self.split) for seed, run in self.measured.items()}
        return {seed: scores for seed, scores in of.items() if scores and math.isfinite(scores.nats_per_token)}

    @property
    def results(self) -> list[Results]:
        """The measurements of the runs that have scores."""
        return [self.measured[seed].results for seed in self.scores]

    @property
    def diverged(self) -> int:
        """How many of its runs have no finite scores."""
        return len(self.runs) - len(self.scores)

    @property
    def mean_nats(self) -> float:
        """Over the seeds: what ranks go by."""
        return statistics.fmean(scores.nats_per_token for scores in self.scores.values())

    @property
    def validation_nats(self) -> float | None:
        """Mean over the seeds, of the weights that are measured; None where a run diverged, or has no validation there.

        Those are the weights at the end of training, unless the best ones were asked for.
        """
        of_weights = [
            point.nats_per_token
            for run in self.runs.values()
            for point in run.validation_curve
            if point.step == (run.steps if run.weights_step is None else run.weights_step)
        ]
        if self.diverged or len(of_weights) < len(self.runs):
            return None
        mean = statistics.fmean(of_weights)
        return mean if math.isfinite(mean) else None


def gather(
    runs: Sequence[MeasuredRun], points: Mapping[str, Point], split: Split, audits: Sequence[ArmAudit]
) -> list[Entrant]:
    """The runs by label, in the order given; the seeds of each in ascending order."""
    unsound = {audit.label: audit.summary for audit in reversed(audits) if not audit.sound}
    by_label: dict[str, dict[int, MeasuredRun]] = {run.record.label: {} for run in runs}
    for run in sorted(runs, key=lambda run: run.record.seed):
        by_label[run.record.label][run.record.seed] = run
    return [Entrant(label, _point(label, of, points), of, split, unsound.get(label)) for label, of in by_label.items()]


def by_size(entrants: Sequence[Entrant]) -> dict[int | None, list[Entrant]]:
    """The arms of each size, small to large; those without a size last."""
    sizes = {entrant.point.size for entrant in entrants}
    order = sorted(sizes, key=lambda size: (size is None, size or 0))
    return {size: [entrant for entrant in entrants if entrant.point.size == size] for size in order}


def _point(label: str, runs: Mapping[int, MeasuredRun], points: Mapping[str, Point]) -> Point:
    """As given, but with the learning rate that its runs say they had, where they say it."""
    given = points.get(label, Point(label))
    specs = [run.record.spec for run in runs.values() if run.record.spec]
    rate = specs[0].get("training", {}).get("learning_rate") if specs else None
    return Point(given.group, given.size, given.learning_rate if rate is None else rate)
