"""Turns the values of measurements into results, which say whose code measured."""

from pathlib import Path

from assay.evaluation.measurement import MEASUREMENTS, AnyMeasurement
from assay.records import Code, Measured, MeasuredBy, MeasurementResult, Record
from assay.training.version import assay_version


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
        sentences=[*measurement.sentences(values), *_of_protocol(measurement, measured)],
        timed=measurement.timed,
    )


def _of_protocol(measurement: AnyMeasurement, measured: Measured) -> list[str]:
    return [f"{measurement.name} was measured with --quick: {measurement.quick}."] if measured.quick else []


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
