"""Carries measurements out on one model, sharing its forward passes; one that fails takes no other with it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from assay.errors import RequestError
from assay.evaluation.measurement import (
    AnyMeasurement,
    Given,
    GivenStudy,
    Measurement,
    Need,
    Reader,
    StudyMeasurement,
    Text,
)
from assay.evaluation.results import as_result
from assay.evaluation.scoring import scored_batches
from assay.model.lm import LanguageModel
from assay.plugins.blame import blamed, described, place_of
from assay.records import Measured, MeasurementResult, Record

Value = TypeVar("Value")
Parameters = list[tuple[int, int]]
"""Which tensors a model's parameters are, and how often each was written to."""


def measure_model(measurements: Sequence[Measurement[Any]], given: Given) -> list[Record]:
    """The values of `measurements`, in their order; all readers of one model and one text share one pass over it.

    What one of them raises is raised in the end.
    """
    measuring = Measuring(given)
    values = measuring.values(measurements)
    measuring.raise_failures()
    return [values[item.name] for item in measurements]


class Measuring:
    """Asks measurements of one model, or where `given` is None of one study, and collects what they raise."""

    def __init__(self, given: Given | None = None) -> None:
        self.given = given
        self.failures: dict[str, Exception] = {}
        """Name of a measurement -> what it raised."""
        self.spoilt = False
        """Whether one of them has changed the model, so that no other may be asked of it."""

    def results(self, measurements: Sequence[Measurement[Any]], measured: Measured) -> list[MeasurementResult]:
        """The results of those that do not fail."""
        values = self.values(measurements)
        shown = [
            self.attempt(item, lambda item=item: as_result(item, values[item.name], measured))  # type: ignore[misc]
            for item in measurements
            if item.name in values
        ]
        return [result for result in shown if result is not None]

    def of_study(self, item: StudyMeasurement[Any], given: GivenStudy, measured: Measured) -> MeasurementResult | None:
        """The result of a measurement of all arms, None where it fails."""
        return self.attempt(item, lambda: as_result(item, item.measure(given), measured))

    def values(self, measurements: Sequence[Measurement[Any]]) -> dict[str, Any]:
        """Name -> values of those that do not fail."""
        assert self.given is not None
        given = self.given
        readers: dict[str, list[Reader]] = {}
        for item in measurements:
            readers[item.name] = self._ask(item, lambda item=item: list(item.readers(given))) or []  # type: ignore[misc]
        self._read(measurements, readers, given)
        values = {}
        for item in measurements:
            if item.name not in self.failures and not self.spoilt:
                of = self._ask(item, lambda item=item: item.measure(given, readers[item.name]))  # type: ignore[misc]
                if item.name not in self.failures:
                    values[item.name] = of
        return values

    def raise_failures(self) -> None:
        """Raise what was collected: an error of assay's own as it is, those of others in one line, each named."""
        for error in self.failures.values():
            if not isinstance(error, RequestError):
                raise error
        if self.failures:
            lines = "; ".join(dict.fromkeys(map(str, self.failures.values())))
            raise RequestError(lines) from next(iter(self.failures.values()))

    def attempt(self, item: AnyMeasurement, what: Callable[[], Value]) -> Value | None:
        """What `what` returns; None where it raises something, which is kept."""
        try:
            return what()
        except Exception as error:
            self.failures.setdefault(item.name, _named(item, error))
            return None

    def _read(self, measurements: Sequence[Measurement[Any]], readers: dict[str, list[Reader]], given: Given) -> None:
        passes: dict[tuple[Need, Text], list[tuple[Measurement[Any], Reader]]] = {}
        for item in measurements:
            for reader in readers[item.name]:
                passes.setdefault((reader.model, reader.text), []).append((item, reader))
        for (model, text), of in passes.items():
            for batch in scored_batches(given.model(model), given.text(text), given.plan):
                for item, reader in of:
                    if item.name not in self.failures:
                        self._ask(item, lambda reader=reader, batch=batch: reader.read(batch))  # type: ignore[misc]

    def _ask(self, item: Measurement[Any], what: Callable[[], Value]) -> Value | None:
        """The same as `attempt`, of a model that must be as it was afterwards; nothing is asked of one that is not."""
        if self.spoilt:
            return None
        return self.attempt(item, lambda: self._guarded(item, what))

    def _guarded(self, item: Measurement[Any], what: Callable[[], Value]) -> Value:
        assert self.given is not None
        models = {need: self.given.model(need) for need in sorted(item.needs & self.given.models.keys())}
        before = {need: _state(model) for need, model in models.items()}
        try:
            return what()
        finally:
            for need, model in models.items():
                if (changed := _changed(before[need], _state(model))) is not None:
                    self.spoilt = True
                    raise ChangedError(changed)


class ChangedError(Exception):
    """A measurement has left a model otherwise than it was."""


def _named(item: AnyMeasurement, error: Exception) -> Exception:
    """`error` in one line that names the measurement and the place; that of a measurement of assay's own as it is."""
    if type(item).__module__.split(".")[0] == "assay":
        return error
    if isinstance(error, RequestError | ChangedError):
        where = f"{place_of(type(item))}: {error}"
    else:
        where = blamed(error) or f"{place_of(type(item))}: {described(error)}"
    named = RequestError(f"{item.name} cannot be measured: {where}")
    named.__cause__ = error
    return named


def _state(model: LanguageModel) -> tuple[bool, Parameters]:
    return model.training, [(id(parameter), parameter._version) for parameter in model.parameters()]


def _changed(before: tuple[bool, Parameters], after: tuple[bool, Parameters]) -> str | None:
    if before[1] != after[1]:
        return "it changed the model's weights, so nothing more is measured on them"
    if before[0] != after[0]:
        mode = "training" if after[0] else "evaluation"
        return f"it left the model in {mode} mode, so nothing more is measured on it"
    return None
