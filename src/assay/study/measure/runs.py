"""What `assay measure` does with runs and studies: measures what is missing, and gathers what is there."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from assay.analysis.character.character import Character, character_of
from assay.analysis.character.questions import INSIDE
from assay.analysis.columns import columns_of, mixed, not_shown, of_some_seeds
from assay.analysis.efficiency import efficiencies
from assay.analysis.statistics import LEVEL
from assay.data.config import DataConfig
from assay.data.corpus import Tell, silent
from assay.data.dataset import Dataset, load_dataset
from assay.errors import RequestError
from assay.evaluation.measurement import (
    MEASUREMENTS,
    AnyMeasurement,
    GivenArm,
    Measurement,
    StudyMeasurement,
    expanded,
    named,
)
from assay.evaluation.results import outdated
from assay.model.plan import resolve_plan
from assay.records import ArmColumn, MeasuredRun, Results, StudyRecord
from assay.records.inference import INFERENCE, Inference
from assay.records.measurement import GROUPS
from assay.records.results import LIKELIHOOD, read_study_results
from assay.report.character import characters
from assay.report.diagnostics import DIAGNOSTIC
from assay.study.asked import StudyConfig, usual_measurements
from assay.study.folder import lock
from assay.study.measure.given import Who, given_folder, given_study
from assay.study.measure.how import EVERYTHING, How
from assay.study.measure.refresh import refresh
from assay.study.measure.results import (
    measure_folder,
    measure_study,
    missing,
    missing_of_study,
    unmet,
)
from assay.study.sources import arm_plugins
from assay.study.subject.run import known_architecture, read_run_config, refuse_edited, refuse_unknown_data


@dataclass(frozen=True)
class Row:
    """One line of a table: an arm over its seeds, or one run or model."""

    name: str
    seeds: int
    columns: list[ArmColumn]


@dataclass(frozen=True)
class Looked:
    """What is known of one subject."""

    subject: str
    rows: list[Row]
    sentences: list[str]
    results: dict[str, Results]
    """Of every run, by its label and seed, or of the model; those of the study itself under "study"."""
    added: list[str] = field(default_factory=list)
    """The measurements of which something new was measured."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured, and why, a line each."""
    characters: list[Character] = field(default_factory=list)
    """Of a study, size by size, where something was asked of what goes on inside its arms."""
    is_study: bool = False


def wanted(config: StudyConfig, only: Sequence[str] | None) -> tuple[list[AnyMeasurement], list[str]]:
    """What is measured of a run or study, and a line for each measurement that it lists and that is not known here.

    Without `only` all that it was asked for, today's defaults, and what plug-in files brought.
    """
    if only is not None:
        return named(expanded(only)), []
    brought = [name for name in MEASUREMENTS.names() if MEASUREMENTS.origin(name).kind == "plug-in"]
    asked = [name for name in config.measurements if name in MEASUREMENTS.names()]
    unknown = [name for name in config.measurements if name not in asked and name not in GROUPS]
    notes = [f"{name}: is not known here; --plugin FILE.py brings it" for name in unknown]
    usual = usual_measurements(config.data.task, config.data.mix < 1)
    return named(expanded([LIKELIHOOD, *asked, *usual, *brought])), notes


def _asked(
    wanted: tuple[list[AnyMeasurement], list[str]], only: Sequence[str] | None, how: How
) -> tuple[list[AnyMeasurement], list[str]]:
    """What of `wanted` is possible with the weights that are looked at; a line for what was asked for by name and is
    not.
    """
    items, notes = wanted
    possible, left_out = how.possible(items)
    return possible, notes if only is None else [*notes, *left_out]


def look_at_run(folder: Path, only: Sequence[str] | None, tell: Tell, how: How = EVERYTHING) -> Looked:
    """The run in `folder`, measured where something is missing."""
    items, notes = _asked(wanted(read_run_config(folder), only), only, how)
    run, added, more = _measured_run(folder, items, tell, cache(load_quietly), how)
    results = run.results if only is None else _only(run.results, items)
    name = f"{run.record.label}, seed {run.record.seed}"
    columns = columns_of(run.record.label, [results], {}, LEVEL)
    rows = [Row(name, 1, columns)] if columns else []
    more += [] if only is None else of_studies(items, str(folder))
    return Looked(str(folder), rows, _said(name, results), {name: results}, added, [*notes, *run.stale.values(), *more])


def of_studies(items: Sequence[AnyMeasurement], name: str) -> list[str]:
    """A line for each of `items` that a single model cannot be asked."""
    of_all = [item for item in items if isinstance(item, StudyMeasurement)]
    return [f"{item.name}: is measured of all arms of a study, and {name} is one model" for item in of_all]


def look_at_study(folder: Path, only: Sequence[str] | None, tell: Tell, how: How = EVERYTHING) -> Looked:
    """The study in `folder`: its finished runs and what is of all arms; its page anew where something was measured."""
    config = read_run_config(folder)
    items, notes = _asked(wanted(config, only), only, how)
    places = sorted(path.parent for path in folder.glob("runs/*/record.json"))
    if not places:
        raise RequestError(f"{folder}: has no finished run yet; `assay compare` goes on with it")
    begun = [path.name for path in sorted((folder / "runs").iterdir()) if (path / "config.yaml").exists()]
    finished = {place.name for place in places}
    notes += [f"{name}: is not trained to its end, and left out" for name in begun if name not in finished]
    text = cache(load_quietly)
    runs, added = [], dict[str, None]()
    failed: list[RequestError] = []
    for place in places:
        try:
            run, new, more = _measured_run(place, items, tell, text, how)
        except RequestError as error:  # the others are measured, and shown, before it is raised
            failed.append(error)
            run, new, more = MeasuredRun.read(place), [], []
        runs.append(run)
        added |= dict.fromkeys(new)
        notes += [*run.stale.values(), *more]
    of_all = [item for item in items if isinstance(item, StudyMeasurement)]
    try:
        results, new = _measured_arms(folder, of_all, runs, places, tell)
    except RequestError as error:
        failed.append(error)
        results, new = read_study_results(folder), []
    added |= dict.fromkeys(new)
    if (folder / "study.json").exists():
        refresh(folder, runs, results, added)
    if failed:
        raise failed[0]
    told = _characters(folder, runs) if INSIDE & {item.name for item in items} else []
    if only is not None:
        runs = [replace(run, results=_only(run.results, items)) for run in runs]
        results = _only(results, items)
    rows = _rows(runs, results, config.rule.level)
    said = [line for result in results.values() for line in result.sentences]
    said += _said_of_runs(runs, [*DIAGNOSTIC] if told else []) + _efficiencies(folder, results)
    every = {f"{run.record.label}, seed {run.record.seed}": run.results for run in runs}
    notes += [*not_shown(runs), *of_some_seeds(runs)]
    return Looked(str(folder), rows, said, {**every, "study": results}, list(added), _once(notes), told, is_study=True)


def _measured_run(
    folder: Path, items: Sequence[AnyMeasurement], tell: Tell, data: Callable[[str], Dataset], how: How
) -> tuple[MeasuredRun, list[str], list[str]]:
    """The run, the names of what was measured now, and a line for each thing that cannot be."""
    of_runs = [item for item in items if isinstance(item, Measurement)]
    run = MeasuredRun.read(folder)
    notes = []
    for item in of_runs:
        lacks, there = unmet(item, folder, run.record), run.results.get(item.name)
        if lacks is not None and (there is None or outdated(item, there) is not None):
            notes.append(f"{item.name}: {lacks}; {folder} cannot be measured by it any more")
    if run.record.status != "finished" and any("initial" in item.needs for item in of_runs):
        notes.append(f"{folder}: diverged, so that its untrained weights alone are measured")
    if not missing(of_runs, run, folder, how):
        return run, [], notes
    tell(f"{folder.name}: measuring {', '.join(item.name for item in missing(of_runs, run, folder, how))}")
    config = read_run_config(folder)
    (arm,) = config.arms
    architecture = known_architecture(folder, config)
    dimensions = architecture.config.parse({**config.model, **arm.model})
    refuse_unknown_data(folder, config)
    dataset = data(config.data.model_dump_json())
    if dataset.digest != run.record.corpus_digest:
        now, then = dataset.digest[:12], run.record.corpus_digest[:12]
        raise RequestError(
            f"{folder}: its data reads as {now} now, and was {then} when it was trained; the data as it was would do"
        )
    if config.data.task is not None:  # a text's digest covers what brought it, a task's does not
        refuse_edited(folder, config.needs or {}, arm_plugins(architecture, dimensions, config.data))
    plan = config.plan or resolve_plan(config.execution, tell)
    who = Who(run.record.label, run.record.seed, run.record.replicate, architecture, dimensions)
    with lock(folder):
        run, added = measure_folder(
            folder,
            of_runs,
            lambda _: replace(given_folder(folder, who, plan, config.evaluation, config.training, dataset), tell=tell),
            how,
        )
    return run, added, notes


def load_quietly(data: str) -> Dataset:
    """The text or task of a data configuration in JSON; each is read once."""
    return load_dataset(DataConfig.model_validate_json(data), silent)


def _measured_arms(
    folder: Path,
    items: Sequence[StudyMeasurement[Any]],
    runs: Sequence[MeasuredRun],
    places: Sequence[Path],
    tell: Tell,
) -> tuple[Results, list[str]]:
    """What is measured of all arms at once."""
    records = [run.record for run in runs]
    if not any(missing_of_study(item, read_study_results(folder), records) for item in items):
        return read_study_results(folder), []
    first = {run.record.label: place for run, place in reversed(list(zip(runs, places, strict=True)))}
    arms = []
    for label, place in first.items():
        config = read_run_config(place)
        architecture = known_architecture(place, config)
        dimensions = architecture.config.parse({**config.model, **config.arms[0].model})
        arms.append(GivenArm(label, architecture, dimensions, config.training))
    plan = read_run_config(places[0]).plan
    with lock(folder):
        return measure_study(
            folder,
            items,
            records,
            given_study(arms, plan or resolve_plan(config.execution, tell), [run.seed for run in records], tell),
        )


def _rows(runs: Sequence[MeasuredRun], of_study: Results, level: float) -> list[Row]:
    """A row an arm."""
    of_arm: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        of_arm.setdefault(run.record.label, []).append(run)
    hidden = mixed(run.results for run in runs)
    rows = [
        Row(label, len(of), columns_of(label, [run.results for run in of], of_study, level, hidden))
        for label, of in of_arm.items()
    ]
    return [row for row in rows if row.columns]


def _said_of_runs(runs: Sequence[MeasuredRun], told: Sequence[str]) -> list[str]:
    """What single runs say; what all of them say, once. Of groups that are `told` of all runs together nothing else."""
    counts = Counter(line for run in runs for result in run.results.values() for line in result.sentences)
    of_all = {line for line, times in counts.items() if times == len(runs) > 1}
    said = []
    for run in runs:
        for result in run.results.values():
            lines = [line for line in result.sentences if line not in of_all]
            who = f"{run.record.label}, seed {run.record.seed}"
            said += [] if result.group in told else [f"{who}: {line}" for line in lines]
    return [*(line for line in counts if line in of_all), *said]


def _characters(folder: Path, runs: Sequence[MeasuredRun]) -> list[Character]:
    """What the arms are like inside; of a study that is not concluded all its runs together."""
    if (folder / "study.json").exists():
        return characters(StudyRecord.read(folder / "study.json"), runs)
    one = character_of(runs)
    return [] if one is None else [one]


def _efficiencies(folder: Path, results: Results) -> list[str]:
    """What arms of a concluded study save for their time, of every protocol of inference that was shown."""
    if not (folder / "study.json").exists():
        return []
    study = StudyRecord.read(folder / "study.json")
    values = [Inference.model_validate(results[name].values) for name in INFERENCE if name in results]
    return [one.sentence() for of in values for one in efficiencies(study, of)]


def _only(results: Results, items: Sequence[AnyMeasurement]) -> Results:
    names = {item.name for item in items}
    return {name: result for name, result in results.items() if name in names}


def _said(name: str, results: Results) -> list[str]:
    return [f"{name}: {sentence}" for result in results.values() for sentence in result.sentences]


def _once(lines: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(lines))
