"""What the results of an arm's runs say of its inside, as numbers over its seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.analysis.columns import mixed
from assay.analysis.statistics import LEVEL, mean_interval
from assay.records import Interval, MeasuredRun, Results

Seeds = Mapping[int, Results]
"""Seed -> the results of the run with it."""
Runs = Mapping[str, Seeds]
"""Label of an arm -> its runs."""


class Inside(NamedTuple):
    """The record of a measurement, of the trained weights where there are any."""

    values: Mapping[str, Any]
    untrained: bool


def by_arm(runs: Sequence[MeasuredRun]) -> dict[str, dict[int, Results]]:
    """The finished ones of `runs`, without what was measured in more than one way."""
    hidden = mixed(run.results for run in runs)
    found: dict[str, dict[int, Results]] = {}
    for run in runs:
        if run.record.status == "finished":
            kept = {name: result for name, result in run.results.items() if name not in hidden}
            found.setdefault(run.record.label, {})[run.record.seed] = kept
    return found


class Kind(NamedTuple):
    """What an arm is, as far as two arms may be halves of one model."""

    architecture: str
    initialisation: str


def kinds(runs: Sequence[MeasuredRun]) -> dict[str, Kind]:
    """Label -> what its runs are."""
    return {
        run.record.label: Kind(run.record.architecture, str(run.record.dimensions.get("initialisation", "own")))
        for run in runs
    }


def column_values(runs: Seeds, measurement: str, key: str) -> dict[int, float]:
    """Seed -> the finite value of a column, of the runs that have one."""
    return {
        seed: column.value
        for seed, results in runs.items()
        if measurement in results
        for column in results[measurement].columns
        if column.key == key and column.value is not None and math.isfinite(column.value)
    }


def inside(runs: Seeds, measurement: str) -> dict[int, Inside]:
    """Seed -> what `measurement` found of it, of those that it found something of."""
    found = {}
    for seed, results in runs.items():
        if measurement in results:
            values = results[measurement].values
            profile = values.get("trained") or values.get("initial")
            if profile is not None:
                found[seed] = Inside(profile, values.get("trained") is None)
    return found


def numbers(of: Mapping[int, Inside], *keys: str) -> dict[int, float]:
    """Seed -> the finite number under `keys` of its record."""
    found = {}
    for seed, one in of.items():
        value: Any = one.values
        for key in keys:
            value = None if value is None else value.get(key)
        if value is not None and math.isfinite(float(value)):
            found[seed] = float(value)
    return found


def ratio_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Geometric mean with Student's interval of the logarithm; None where not all are above zero, or there are none."""
    if not values or min(values) <= 0:
        return None
    of = mean_interval([math.log(value) for value in values], level)
    low, high = (None if end is None else math.exp(end) for end in (of.low, of.high))
    return Interval(mean=math.exp(of.mean), low=low, high=high)


def told(values: Sequence[float], form: str = "{:.3g}", ratios: bool = False) -> str:
    """ "9.1 tokens (8.1 to 10.2 over 3 seeds)": the mean (a geometric one of `ratios`), the lowest and the highest."""
    number = form.partition(" ")[0]
    return form.replace(number, _positive_zero(number.format(mean(values, ratios)))) + between(values, form)


def between(values: Sequence[float], form: str) -> str:
    """ " (8.1 to 10.2 over 3 seeds)": the lowest and the highest; empty where they look alike."""
    low, high = (_positive_zero(form.partition(" ")[0].format(end)) for end in (min(values), max(values)))
    return f" ({low} to {high} over {len(values)} seeds)" if len(values) > 1 and low != high else ""


def _positive_zero(text: str) -> str:
    """ "+0.000" for "-0.000"."""
    return text.replace("-", "+") if not set(text) & set("123456789") else text


def mean(values: Sequence[float], ratios: bool = False) -> float:
    """The arithmetic mean, of `ratios` above zero the geometric one."""
    if ratios and min(values) > 0:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)
