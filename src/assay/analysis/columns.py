"""What was measured of an arm, over its seeds: numbers as means with intervals or ranges, texts counted; generic."""

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from assay.analysis.statistics import mean_interval, perplexity_interval
from assay.analysis.wording import join_names
from assay.records import ArmColumn, Column, MeasuredBy, MeasuredRun, MeasurementResult, Results
from assay.records.results import LIKELIHOOD

AGAIN = "`assay measure` measures what is missing."
"""How sentences end that measuring makes untrue."""


def mixed(runs: Iterable[Results]) -> dict[str, list[str]]:
    """Measurements of which the runs hold results of more than one version, code or protocol, with those in words.

    Such results stand neither beside each other nor in one mean.
    """
    codes: dict[str, set[tuple[int, str, bool]]] = {}
    for results in runs:
        for name, result in results.items():
            codes.setdefault(name, set()).add(_kind(result))
    return {
        name: [
            (f"{version} ({digest[:8]})" if digest else str(version)) + (" with --quick" if quick else "")
            for version, digest, quick in sorted(of)
        ]
        for name, of in codes.items()
        if len(of) > 1
    }


def _kind(result: MeasurementResult) -> tuple[int, str, bool]:
    return result.measurement_version, result.code.digest or "", result.measured.quick


def arm_columns(
    label: str, of_runs: Sequence[Results], of_study: Results, level: float, hidden: Container[str] = ()
) -> list[ArmColumn]:
    """The columns of one arm but those of the likelihood, whose scores a study keeps by themselves."""
    columns = columns_of(label, of_runs, of_study, level, hidden)
    return [column for column in columns if column.measurement != LIKELIHOOD]


def columns_of(
    label: str, of_runs: Sequence[Results], of_study: Results, level: float, hidden: Container[str] = ()
) -> list[ArmColumn]:
    """The columns of one arm: of its runs' results over the seeds, then of the study's results its own.

    `hidden` are the measurements that are `mixed` over everything that is shown together.
    """
    columns = []
    for name in dict.fromkeys(name for results in of_runs for name in results):
        if name not in hidden:
            having = [results[name].columns for results in of_runs if name in results]
            columns += list(_over_seeds(name, having, level))
    for name, result in of_study.items():
        own = [column for column in result.columns if column.arm == label]
        columns += [ArmColumn(**column.model_dump(), measurement=name, seeds=0) for column in own]
    return columns


def measured_by(runs: Sequence[MeasuredRun], of_study: Results) -> list[MeasuredBy]:
    """Every measurement of runs and study, with what each said of what."""
    found: dict[str, list[tuple[str, MeasurementResult]]] = {}
    for run in runs:
        for name, result in run.results.items():
            found.setdefault(name, []).append((f"{run.record.label}, seed {run.record.seed}: ", result))
    for name, result in of_study.items():
        found.setdefault(name, []).append(("", result))
    ordered = sorted(found.values(), key=lambda of: of[0][1].order)
    return [
        MeasuredBy(
            name=first.measurement,
            version=first.measurement_version,
            question=first.question,
            unit=first.unit,
            group=first.group,
            scope=first.scope,
            code=first.code,
            sentences=[f"{whose}{sentence}" for whose, result in of for sentence in result.sentences],
        )
        for of in ordered
        for first in [of[0][1]]
    ]


def said(runs: Sequence[MeasuredRun], of_study: Results) -> list[str]:
    """The sentences of a study: what is mixed or of some seeds alone, and what its own results say."""
    return [
        *not_shown(runs),
        *of_some_seeds(runs),
        *(sentence for result in of_study.values() for sentence in result.sentences),
    ]


def not_shown(runs: Sequence[MeasuredRun]) -> list[str]:
    """A sentence for each measurement that is mixed."""
    return [
        f"{name} was measured by versions {join_names(versions)} of it, so it is not shown; {AGAIN}"
        for name, versions in mixed(run.results for run in runs).items()
    ]


def of_some_seeds(runs: Sequence[MeasuredRun]) -> list[str]:
    """A sentence for each arm and measurement that not all of the arm's finished runs have: its mean is of fewer."""
    of_arm: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        if run.record.status == "finished":
            of_arm.setdefault(run.record.label, []).append(run)
    lines = []
    for label, of in of_arm.items():
        names = [name for run in of for name in run.results]
        for name, count in Counter(names).items():
            if count < len(of):
                lines.append(f"{name} of {label} is of {count} of its {len(of)} seeds; {AGAIN}")
    return lines


def _over_seeds(name: str, of_runs: Sequence[Sequence[Column]], level: float) -> Iterator[ArmColumn]:
    by_key: dict[str, list[Column]] = {}
    for columns in of_runs:
        for column in columns:
            by_key.setdefault(column.key, []).append(column)
    for of in by_key.values():
        changes = _text(of) if of[0].format == "text" else _number(of, level)
        yield ArmColumn(**{**of[0].model_dump(), **changes}, measurement=name, seeds=len(of))


def _text(of: Sequence[Column]) -> Mapping[str, str | None]:
    """The text of all; where they differ, the most frequent one other than the usual text, and how often it occurs."""
    counts = Counter(column.text for column in of if column.text is not None)
    if len(counts) > 1:
        counts.pop(of[0].usual, None)
        text, times = counts.most_common(1)[0]
        return {"text": f"{text} {times}/{len(of)}"}
    return {"text": next(iter(counts), None)}


def _number(of: Sequence[Column], level: float) -> Mapping[str, float | None]:
    """The mean with its interval or range; nothing where a run has none, its own interval where there is one run."""
    values = [column.value for column in of if column.value is not None]
    if len(values) < len(of) or not all(map(math.isfinite, values)):
        return {"value": None, "low": None, "high": None}
    if len(of) == 1:
        return {}
    if of[0].spread == "range":
        return {"value": mean_interval(values).mean, "low": min(values), "high": max(values)}
    over = perplexity_interval if of[0].format == "perplexity" else mean_interval
    interval = over([math.log(value) for value in values] if of[0].format == "perplexity" else values, level)
    low, high = interval.low, interval.high
    if of[0].format == "percent" and all(0 <= value <= 1 for value in values):  # a share lies between 0% and 100%
        low, high = None if low is None else max(0.0, low), None if high is None else min(1.0, high)
    return {"value": interval.mean, "low": low, "high": high}
