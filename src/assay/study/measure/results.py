"""Measures runs and studies that lie in folders: what is missing or outdated, written beside them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.data.task import TASKS, Task, in_words
from assay.evaluation.measurement import Given, GivenStudy, Measurement, Need, StudyMeasurement
from assay.evaluation.measuring import Measuring
from assay.evaluation.results import code_in_words, outdated
from assay.records import Measured, MeasuredRun, RunRecord
from assay.records.results import Results, read_study_results, weights_digest, write_result
from assay.study.measure.how import EVERYTHING, How
from assay.training.course import course_file, observed_by, read_course
from assay.training.version import assay_version

Tell = Callable[[str], None]
NEEDS: tuple[Need, ...] = ("initial", "trained", "task", "capacity", "words", "mixture")
"""What a run that has ended may have, the course apart."""


def made_by_this_assay(environment: Mapping[str, str]) -> bool:
    """Whether a record of this environment was made by today's numerical sources: others may draw other weights."""
    return environment.get("assay") == assay_version()


def can_measure_again(item: Measurement[Any], environment: Mapping[str, str]) -> bool:
    """Whether an older result is worth replacing: one of untrained weights that cannot be had again stays."""
    return "initial" not in item.needs or made_by_this_assay(environment)


def missing(
    measurements: Sequence[Measurement[Any]], run: MeasuredRun, folder: Path, how: How = EVERYTHING
) -> list[Measurement[Any]]:
    """Those that the run in `folder` has no result of, or one of another version or of other code, and could have.

    A result of a smaller protocol, or of fewer weights, than `how` asks for is missing too.
    """
    there = there_is(run.record)

    def lacks(item: Measurement[Any]) -> bool:
        result = run.results.get(item.name)
        if result is None:
            return True
        of_old = outdated(item, result) is not None or how.lacking(item, result, there)
        return of_old and can_measure_again(item, run.record.environment)

    return [item for item in measurements if unmet(item, folder, run.record) is None and lacks(item)]


def unmet(item: Measurement[Any], folder: Path, run: RunRecord) -> str | None:
    """In words what the ended run in `folder` lacks for the measurement, None where nothing is.

    One that diverged has no trained weights to speak of; of the course there is only what the observer saw, which is of
    use only to the code that observed it.
    """
    ended = there_is(run)
    path = course_file(folder, item.name)
    if not path.exists() or "course" not in item.needs:
        return item.unmet(ended)
    then, now = observed_by(path), code_in_words(item)
    if then == now:
        return item.unmet(ended | {"course"})
    if item.unmet(ended) is None:
        return None
    return f"the course of training was observed by {then or 'unknown code'}, and it is {now} now"


def there_is(run: RunRecord) -> frozenset[Need]:
    """The needs that an ended run meets, the course apart."""
    there: dict[Need, bool] = {
        "initial": made_by_this_assay(run.environment),
        "trained": run.status == "finished",
        **of_data(run.spec.get("data", {})),
    }
    return frozenset(need for need in NEEDS if there[need])


def of_data(data: Mapping[str, Any]) -> dict[Need, bool]:
    """Which of the needs that are about data those of a configuration meet."""
    task = data.get("task")
    return {
        "task": task is not None,
        "capacity": task is not None and _sets_capacity(task),
        "words": task is not None and in_words(task),
        "mixture": task is not None and data.get("mix", 1) < 1,
    }


def _sets_capacity(task: str) -> bool:
    """Whether the task that a run names is known here and has an axis for how many things are to be remembered."""
    name = task.partition(":")[0].strip()
    if name not in TASKS.names():
        return False
    found = TASKS.get(name)
    return isinstance(found, Task) and found.capacity is not None


def measure_folder(
    folder: Path,
    measurements: Sequence[Measurement[Any]],
    given: Callable[[MeasuredRun], Given],
    how: How = EVERYTHING,
) -> tuple[MeasuredRun, list[str]]:
    """Measure what the run in `folder` lacks, and write each result there; the run, and the names of what was added.

    `given` is asked only where something is missing. Each result is written as soon as it is there, so that an
    interrupted call loses one measurement at most. Where one fails, that is raised after the results of the others are
    written, and it is missing still.
    """
    run = MeasuredRun.read(folder)
    to_do = missing(measurements, run, folder, how)
    if not to_do:
        return run, []
    measured = Measured(
        label=run.record.label,
        seed=run.record.seed,
        spec_digest=run.record.spec_digest,
        weights_sha256=weights_digest(folder),
    )
    had = [run.results[item.name] for item in to_do if item.name in run.results]
    measuring = Measuring(how.beside(had).of(given(run)))
    results = measuring.results(to_do, measured, keep=lambda result: write_result(folder, result))
    measuring.raise_failures()
    return run.with_results(results), [result.measurement for result in results]


def measure_study(
    folder: Path, measurements: Sequence[StudyMeasurement[Any]], runs: Sequence[RunRecord], given: GivenStudy
) -> tuple[Results, list[str]]:
    """Measure what the study in `folder` lacks, or has of other runs; its results, and the names of what was new.

    What fails is raised after the others are written.
    """
    results, added = dict(read_study_results(folder)), []
    measuring = Measuring()
    for item in measurements:
        if missing_of_study(item, results, runs):
            measured = Measured(label="", runs=rests_on(item, runs))
            result = measuring.of_study(item, given, measured)
            if result is not None:
                results[item.name] = result
                write_result(folder, result)
                added.append(item.name)
    measuring.raise_failures()
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


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of the run in `folder`, one a training step."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def read_courses(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What observers returned while the run in `folder` was trained, by the name of the measurement."""
    paths = sorted(folder.glob("course/*.jsonl"))
    return {path.stem: read_course(path) for path in paths}
