"""How far `assay measure` looks: at which weights, and whether by the smaller protocol."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from assay.errors import RequestError
from assay.evaluation.measurement import MOMENTS, NEEDS, AnyMeasurement, Given, Measurement, Moment, Need
from assay.records import MeasurementResult

MOMENT_NAMES: dict[str, Moment] = {"init": "initial", "trained": "trained"}
"""As `--at` names them."""


class How(NamedTuple):
    """`quick` as in `Given`; `at` are the weights that are looked at, where a measurement has a choice."""

    quick: bool = False
    at: frozenset[Moment] = frozenset(MOMENTS)

    def of(self, given: Given) -> Given:
        """`given` without the weights that are left out."""
        models = {need: model for need, model in given.models.items() if need not in MOMENTS or need in self.at}
        return dataclasses.replace(given, models=models, quick=self.quick)

    def possible(self, items: Sequence[AnyMeasurement]) -> tuple[list[AnyMeasurement], list[str]]:
        """Those of `items` that need no weights that are left out, and a line for each of the others."""
        known: frozenset[Need] = frozenset(NEEDS) - (frozenset(MOMENTS) - self.at)
        kept: list[AnyMeasurement] = []
        notes = []
        for item in items:
            lacks = item.unmet(known) if isinstance(item, Measurement) else None
            if lacks is None:
                kept.append(item)
            else:
                notes.append(f"{item.name}: {lacks}; --at leaves them out")
        return kept, notes

    def lacking(self, item: Measurement[Any], result: MeasurementResult, there: Iterable[str]) -> bool:
        """Whether `result` is of a smaller protocol, or of fewer of the weights that are `there`, than is asked for."""
        measured = result.measured
        moments = self.at & item.needs & set(there)
        return (measured.quick and not self.quick) or (bool(measured.at) and not moments <= set(measured.at))

    def beside(self, results: Iterable[MeasurementResult]) -> "How":
        """The same with the weights that `results` are of too: what is measured again keeps all that it was of."""
        had = {moment for result in results for moment in result.measured.at}
        return self._replace(at=self.at | {moment for moment in MOMENTS if moment in had})


EVERYTHING = How()
"""All weights, by the whole protocol."""


def parse_moments(names: Sequence[str]) -> frozenset[Moment]:
    """The weights that `--at` names; an unknown name is a RequestError."""
    for name in names:
        if name not in MOMENT_NAMES:
            raise RequestError(f"--at {name}: no such weights; {' or '.join(MOMENT_NAMES)} would do")
    return frozenset(MOMENT_NAMES[name] for name in names)
