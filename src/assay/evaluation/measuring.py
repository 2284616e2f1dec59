"""Carries measurements out on one model, sharing its forward passes; one that fails takes no other with it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

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
from assay.evaluation.scoring import ScoredBatch, scored_batches
from assay.model.fingerprint import Fingerprint, fingerprint
from assay.plugins.blame import blamed, described, place_of
from assay.records import Measured, MeasurementResult, Record

Value = TypeVar("Value")


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

    def results(
        self,
        measurements: Sequence[Measurement[Any]],
        measured: Measured,
        keep: Callable[[MeasurementResult], object] | None = None,
    ) -> list[MeasurementResult]:
        """The results of those that do not fail; each is given to `keep` as soon as it is there."""
        results = []

        def show(item: Measurement[Any], values: Any) -> None:
            result = self.attempt(item, lambda: as_result(item, values, self._of(item, measured)))
            if result is not None:
                results.append(result)
                if keep is not None:
                    keep(result)

        self.values(measurements, show)
        return results

    def _of(self, item: Measurement[Any], measured: Measured) -> Measured:
        """`measured` with the protocol and the weights that `item` was asked of."""
        assert self.given is not None
        at = [moment for moment in self.given.moments if moment in item.needs]
        return measured.model_copy(update={"quick": self.given.quick and bool(item.quick), "at": at})

    def of_study(self, item: StudyMeasurement[Any], given: GivenStudy, measured: Measured) -> MeasurementResult | None:
        """The result of a measurement of all arms, None where it fails."""
        return self.attempt(item, lambda: as_result(item, _of_its_record(item, item.measure(given)), measured))

    def values(
        self,
        measurements: Sequence[Measurement[Any]],
        each: Callable[[Measurement[Any], Any], object] | None = None,
    ) -> dict[str, Any]:
        """Name -> values of those that do not fail; `each` is called with them as soon as they are there."""
        assert self.given is not None
        given = self.given
        readers: dict[str, list[Reader]] = {}
        for item in measurements:
            readers[item.name] = self._ask(item, lambda item=item: list(item.readers(given))) or []  # type: ignore[misc]
        self._read(measurements, readers, given)
        values = {}
        for item in measurements:
            if item.name not in self.failures and not self.spoilt:
                given.tell(f"{given.label}, seed {given.seed}: measuring {item.name}")
                of = self._ask(item, lambda item=item: _values(item, given, readers[item.name]))  # type: ignore[misc]
                if item.name not in self.failures:
                    values[item.name] = of
                    if each is not None:
                        each(item, of)
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
                        self._ask(item, lambda reader=reader, batch=batch: _read(reader, batch))  # type: ignore[misc]

    def _ask(self, item: Measurement[Any], what: Callable[[], Value]) -> Value | None:
        """The same as `attempt`, of a model that must be as it was afterwards; nothing is asked of one that is not."""
        if self.spoilt:
            return None
        return self.attempt(item, lambda: self._guarded(item, what))

    def _guarded(self, item: Measurement[Any], what: Callable[[], Value]) -> Value:
        assert self.given is not None
        models = {need: self.given.model(need) for need in sorted(item.needs & self.given.models.keys())}
        before = {need: fingerprint(model) for need, model in models.items()}
        text_before = _text(self.given)
        try:
            return what()
        finally:
            if any(_text(self.given)[name] != content for name, content in text_before.items()):
                self.spoilt = True
                raise ChangedError("it changed the text, so nothing more is measured on it")
            for need, model in models.items():
                if (changed := _changed(before[need], fingerprint(model))) is not None:
                    self.spoilt = True
                    raise ChangedError(changed)


def _values(item: Measurement[Any], given: Given, readers: Sequence[Reader]) -> Record:
    """What `measure` returns."""
    return _of_its_record(item, item.measure(given, readers))


def _of_its_record(item: AnyMeasurement, values: object) -> Record:
    """`values` where they are of the measurement's `record`; else a RequestError."""
    if isinstance(values, item.record):
        return values
    raise RequestError(f"measure returns {type(values).__name__}; {item.record.__name__}, its `record`, would do")


def _read(reader: Reader, batch: ScoredBatch) -> None:
    """Let it read; one that writes into what the others read too is an error of its own."""
    before = batch.hidden._version
    arrays = {name: getattr(batch, name).copy() for name in ("rows", "inputs", "targets", "nats")}
    reader.read(dataclasses.replace(batch, **arrays))
    if batch.hidden._version != before:
        raise ChangedError("its reader changed the batch that others read too")


def _text(given: Given) -> dict[str, bytes]:
    """What the windows hold that have been made so far."""
    made = {name: given.__dict__[name] for name in get_args(Text) if name in given.__dict__}
    return {name: windows.inputs.tobytes() + windows.targets.tobytes() for name, windows in made.items()}


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


def _changed(before: Fingerprint, after: Fingerprint) -> str | None:
    if before.weights != after.weights:
        return "it changed the model's weights, so nothing more is measured on them"
    if before.modes != after.modes:
        return "it left the model in another mode, so nothing more is measured on it"
    if before.hooks != after.hooks:
        return "it left hooks on the model, so nothing more is measured on it"
    return None
