"""Carries measurements out on one model, sharing its forward passes, and turns their values into results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.evaluation.measurement import MEASUREMENTS, AnyMeasurement, Given, Measurement, Need, Reader, Text
from assay.evaluation.scoring import scored_batches
from assay.records import Code, Measured, MeasuredBy, MeasurementResult, Record
from assay.training.environment import assay_version


def measure_model(measurements: Sequence[Measurement[Any]], given: Given) -> list[Record]:
    """The values of `measurements`, in their order; all readers of one model and one text share one pass over it."""
    readers = [measurement.readers(given) for measurement in measurements]
    passes: dict[tuple[Need, Text], list[Reader]] = {}
    for reader in (reader for of in readers for reader in of):
        passes.setdefault((reader.model, reader.text), []).append(reader)
    for (model, text), of in passes.items():
        for batch in scored_batches(given.model(model), given.text(text), given.plan):
            for reader in of:
                reader.read(batch)
    return [measurement.measure(given, of) for measurement, of in zip(measurements, readers, strict=True)]


def as_result(measurement: AnyMeasurement, values: Record, measured: Measured) -> MeasurementResult:
    """What is written of the values, and shown."""
    return MeasurementResult(
        measurement=measurement.name,
        measurement_version=measurement.version,
        question=measurement.question,
        unit=measurement.unit,
        group=measurement.group,
        scope=measurement.scope,
        measured=measured,
        code=code_of(measurement),
        values=values.model_dump(mode="json"),
        columns=measurement.columns(values),
        figures=measurement.figures(values),
        sentences=measurement.sentences(values),
    )


def code_of(measurement: AnyMeasurement) -> Code:
    """Whose code it is, and in which state."""
    origin = MEASUREMENTS.origin(measurement.name)
    if origin.kind == "built-in":
        return Code(kind="built-in", name=f"assay {assay_version()}")
    return Code(kind=origin.kind, name=Path(origin.name).name, digest=origin.digest)


def code_in_words(measurement: AnyMeasurement) -> str:
    """Whose code it is, its version, and of code from outside in which state: "norms.py (0f3a9c01b7d4), version 1"."""
    code = code_of(measurement)
    name = "assay" if code.kind == "built-in" else f"{code.name} ({(code.digest or 'unknown')[:12]})"
    return f"{name}, version {measurement.version}"


def outdated(measurement: AnyMeasurement, result: MeasurementResult | MeasuredBy) -> str | None:
    """Why `result` is not what the measurement of today would give, None where it is."""
    version = result.version if isinstance(result, MeasuredBy) else result.measurement_version
    if version != measurement.version:
        return f"{measurement.name} was measured by its version {version}, not {measurement.version}"
    code = code_of(measurement)
    if result.code.kind == "older record":
        return None
    if (code.kind == "built-in") != (result.code.kind == "built-in"):
        return f"{measurement.name} was measured by {result.code.name}, not by {code.name}"
    if code.digest != result.code.digest:
        return f"{measurement.name} was measured by {code.name} as it was before it was edited"
    return None
