"""Measures runs and studies that lie in folders: what is missing or outdated, written beside them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assay.evaluation.measurement import Given, GivenStudy, Measurement, Need, StudyMeasurement
from assay.evaluation.results import as_result, measure_model, outdated
from assay.records import Measured, MeasuredRun, MeasurementResult, RunRecord
from assay.records.results import Results, read_study_results, weights_digest, write_result
from assay.training.loop import course_file

Tell = Callable[[str], None]


def missing(measurements: Sequence[Measurement[Any]], run: MeasuredRun, folder: Path) -> list[Measurement[Any]]:
    """Those that the run in `folder` has no result of, or one of another version or of other code, and could have."""
    return [
        item
        for item in measurements
        if item.unmet(offered(folder, run.record, item.name)) is None
        and (item.name not in run.results or outdated(item, run.results[item.name]) is not None)
    ]


def offered(folder: Path, run: RunRecord, name: str) -> frozenset[Need]:
    """What a run offers the measurement called `name` once it has ended.

    One that diverged has no trained weights to speak of, and of the course only what its observer saw is there.
    """
    ended: frozenset[Need] = frozenset({"initial", "trained"} if run.status == "finished" else {"initial"})
    return ended | ({"course"} if course_file(folder, name).exists() else set())


def measure_folder(
    folder: Path,
    measurements: Sequence[Measurement[Any]],
    given: Callable[[MeasuredRun], Given],
) -> tuple[MeasuredRun, list[str]]:
    """Measure what the run in `folder` lacks, and write each result there; the run, and the names of what was added.

    `given` is asked only where something is missing.
    """
    run = MeasuredRun.read(folder)
    to_do = missing(measurements, run, folder)
    if not to_do:
        return run, []
    measured = Measured(
        label=run.record.label,
        seed=run.record.seed,
        spec_digest=run.record.spec_digest,
        weights_sha256=weights_digest(folder),
    )
    results = results_of(to_do, given(run), measured)
    for result in results:
        write_result(folder, result)
    return run.with_results(results), [result.measurement for result in results]


def results_of(measurements: Sequence[Measurement[Any]], given: Given, measured: Measured) -> list[MeasurementResult]:
    """What `measurements` give, as they are written."""
    values = measure_model(measurements, given)
    return [as_result(item, of, measured) for item, of in zip(measurements, values, strict=True)]


def measure_study(
    folder: Path, measurements: Sequence[StudyMeasurement[Any]], runs: Sequence[RunRecord], given: GivenStudy
) -> tuple[Results, list[str]]:
    """Measure what the study in `folder` lacks, or has of other runs; its results, and the names of what was new."""
    results, added = dict(read_study_results(folder)), []
    for item in measurements:
        if missing_of_study(item, results, runs):
            measured = Measured(label="", runs=rests_on(item, runs))
            results[item.name] = as_result(item, item.measure(given), measured)
            write_result(folder, results[item.name])
            added.append(item.name)
    return results, added


def missing_of_study(item: StudyMeasurement[Any], results: Results, runs: Sequence[RunRecord]) -> bool:
    """Whether it was not measured, or by another version, or of other runs."""
    if item.name not in results:
        return True
    result = results[item.name]
    other_runs = result.measured.runs != rests_on(item, runs) and result.code.kind != "older record"
    return outdated(item, result) is not None or other_runs


def rests_on(item: StudyMeasurement[Any], runs: Sequence[RunRecord]) -> dict[str, str]:
    """The runs that its result is of: all, or where only the arms matter those of the lowest seed."""
    first: dict[str, RunRecord] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        first.setdefault(run.label, run)
    of = list(first.values()) if item.rests_on == "arms" else runs
    return {f"{run.label}-seed{run.seed}": run.spec_digest for run in sorted(of, key=lambda run: (run.label, run.seed))}


def read_courses(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What observers returned while the run in `folder` was trained, by the name of the measurement."""
    paths = sorted(folder.glob("course/*.jsonl"))
    return {path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in paths}
