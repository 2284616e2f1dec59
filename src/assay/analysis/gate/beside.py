"""What stands beside the losses of a ladder: tokens that can be looked up, and several texts."""

import math
from collections.abc import Mapping, Sequence

from assay.analysis.statistics import mean_interval
from assay.records import MeasuredRun
from assay.records.gate import Beside
from assay.records.results import RECALL, TEXTS

Values = dict[tuple[str, str], dict[int, float]]
"""(head, unit) of a column -> seed -> value."""


def beside(ours: Mapping[int, MeasuredRun], theirs: Mapping[int, MeasuredRun] | None) -> list[Beside]:
    """Means over the seeds of one arm at one size, and the differences from the baseline's, paired by seed.

    `theirs` is None for the baseline itself. All intervals are Student's at 95%, each by itself. Nothing is said of an
    arm of which a run diverged, as the mean of the others would look better than it is, and no text is compared that
    was not the same for all.
    """
    if not _all_finished(ours):
        return []
    compared = theirs if theirs is not None and _all_finished(theirs) else {}
    changed = _changed([*ours.values(), *compared.values()])
    of_theirs = _values(compared)
    found = []
    for (name, unit), by_seed in _values(ours).items():
        if name in changed:
            continue
        other = of_theirs.get((name, unit), {})
        apart = [by_seed[seed] - other[seed] for seed in sorted(by_seed.keys() & other.keys())]
        found.append(
            Beside(
                name=name,
                unit=unit,
                over_seeds=mean_interval(list(by_seed.values())),
                against_baseline=mean_interval(apart) if apart else None,
            )
        )
    return found


def _all_finished(runs: Mapping[int, MeasuredRun]) -> bool:
    return all(run.record.status == "finished" for run in runs.values())


def _changed(runs: Sequence[MeasuredRun]) -> set[str]:
    """The texts, by the head of their column, that were not the same for all runs."""
    digests: dict[str, set[str]] = {}
    for run in runs:
        if TEXTS in run.results:
            result = run.results[TEXTS]
            for column, text in zip(result.columns, result.values.get("texts", []), strict=False):
                digests.setdefault(column.head, set()).add(text["digest"])
    return {head for head, of in digests.items() if len(of) > 1}


def _values(runs: Mapping[int, MeasuredRun]) -> Values:
    found: Values = {}
    for seed, run in runs.items():
        for measurement in (RECALL, TEXTS):
            for column in run.results[measurement].columns if measurement in run.results else []:
                if column.value is not None and math.isfinite(column.value):
                    found.setdefault((column.head, column.second or "nats/token"), {})[seed] = column.value
    return found
