"""What stands beside the losses of a ladder: means over seeds, and differences from the baseline that are paired."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from analysis.gate.ladders import run_of
from assay.analysis.gate.beside import beside
from assay.records import Column, Measured, MeasuredRun, MeasurementResult
from assay.records.measurement import Code


def with_bits(label: str, bits: Sequence[float]) -> dict[int, MeasuredRun]:
    """Runs over seeds, each with these bits per byte of a text."""
    return {
        seed: replace(run_of(label, 100_000, seed, 3.0), results=_results(value)) for seed, value in enumerate(bits)
    }


def _results(value: float, digest: str = "one") -> dict[str, MeasurementResult]:
    column = Column(key="manual", head="manual", second="bits/byte", format="nats", value=value, better="lower")
    return {
        "texts": MeasurementResult(
            measurement="texts",
            measurement_version=1,
            question="?",
            unit="bits per byte",
            group="likelihood",
            scope="run",
            measured=Measured(label=""),
            code=Code(kind="built-in", name="assay"),
            values={"texts": [{"digest": digest}]},
            columns=[column],
        )
    }


def test_differences_are_paired_by_seed() -> None:
    theirs = with_bits("gpt1", [2.0, 3.0, 4.0])
    (of,) = beside(with_bits("mine", [1.9, 2.88, 3.92]), theirs)
    assert of.over_seeds.mean == pytest.approx(2.9)
    assert of.against_baseline is not None
    assert of.against_baseline.mean == pytest.approx(-0.1)
    assert of.against_baseline.high is not None
    assert of.against_baseline.high < 0, "the seeds' common spread is no spread of the difference"
    assert (of.name, of.unit) == ("manual", "bits/byte")


def test_baseline_has_no_difference_and_runs_without_a_measurement_no_number() -> None:
    (of,) = beside(with_bits("gpt1", [2.0, 3.0]), None)
    assert of.against_baseline is None
    assert beside({0: replace(run_of("gpt1", 1, 0, 3.0), results={})}, None) == []


def test_an_arm_of_which_a_run_diverged_has_no_means() -> None:
    runs = with_bits("mine", [2.0, 3.0])
    runs[1] = replace(runs[1], record=runs[1].record.model_copy(update={"status": "diverged"}))
    assert beside(runs, None) == []
    (of,) = beside(with_bits("other", [2.0, 3.0]), runs)
    assert of.against_baseline is None


def test_texts_that_differ_between_runs_are_not_compared() -> None:
    ours, theirs = with_bits("mine", [2.0, 3.0]), with_bits("gpt1", [2.0, 3.0])
    assert beside(ours, theirs)
    theirs[1] = replace(theirs[1], results=_results(3.0, digest="another"))
    assert beside(ours, theirs) == []
