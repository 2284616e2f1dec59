"""What stands beside the losses of a ladder: tokens that can be looked up, and several texts."""

import math
from collections.abc import Mapping

from assay.analysis.statistics import mean_interval
from assay.records import MeasuredRun
from assay.records.gate import Beside
from assay.records.results import RECALL, TEXTS

Values = dict[tuple[str, str], dict[int, float]]
"""(head, unit) of a column -> seed -> value."""


def beside(ours: Mapping[int, MeasuredRun], theirs: Mapping[int, MeasuredRun] | None) -> list[Beside]:
    """Means over the seeds of one arm at one size, and the differences from the baseline's, paired by seed.

    `theirs` is None for the baseline itself. All intervals are Student's at 95%, each by itself.
    """
    of_theirs = {} if theirs is None else _values(theirs)
    found = []
    for (name, unit), by_seed in _values(ours).items():
        over_seeds = mean_interval(list(by_seed.values()))
        other = of_theirs.get((name, unit), {})
        apart = [by_seed[seed] - other[seed] for seed in sorted(by_seed.keys() & other.keys())]
        found.append(
            Beside(
                name=name,
                unit=unit,
                over_seeds=over_seeds,
                against_baseline=mean_interval(apart) if apart else None,
            )
        )
    return found


def _values(runs: Mapping[int, MeasuredRun]) -> Values:
    """Only of runs that ended well: others have no trained weights to speak of."""
    found: Values = {}
    for seed, run in runs.items():
        for measurement in (RECALL, TEXTS):
            if measurement in run.results and run.record.status == "finished":
                result = run.results[measurement]
                for column in result.columns:
                    if column.value is not None and math.isfinite(column.value):
                        unit = column.second or "nats/token"
                        found.setdefault((column.head, unit), {})[seed] = column.value
    return found
