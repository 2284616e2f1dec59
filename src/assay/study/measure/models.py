"""What `assay measure` does with models on data that they were not trained on here: untrained, imported, on a task."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.analysis.columns import columns_of
from assay.analysis.statistics import LEVEL
from assay.analysis.wording import join_names
from assay.data.corpus import Tell
from assay.data.dataset import load_dataset
from assay.data.task import TaskDataset, find_task, in_words
from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.task import TextTask
from assay.errors import RequestError
from assay.evaluation.measurement import Given, Measurement, Need, StudyMeasurement, expanded, named
from assay.evaluation.measuring import Measuring
from assay.hub.folder import TOKENIZER, locate
from assay.model.accounting import count_parameters
from assay.model.architecture import Architecture, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan, available_cores, resolve_plan
from assay.model.sizing import build_on_meta
from assay.records import Measured, MeasurementResult
from assay.records.results import in_order
from assay.study.arm import ArmConfig, parse_arm
from assay.study.asked import DEFAULT_SIZE, StudyConfig, usual_measurements
from assay.study.machine import threads_at_once
from assay.study.measure.given import Who, arms_of, given, given_study
from assay.study.measure.how import EVERYTHING, How
from assay.study.measure.kept import keep, kept, kept_in
from assay.study.measure.runs import Looked, Row, of_studies
from assay.study.resolve import Study, resolve
from assay.study.subject.file import registered_by
from assay.study.subject.lookup import load_subject
from assay.study.subject.run import LoadedRun, load_run, read_run_config
from assay.study.subject.subject import Subject
from assay.training.config import TrainingConfig


def look_at_arm(
    arm: ArmConfig, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> Looked:
    """An untrained model of `arm`; `settings` are those of a study: its data, training.context, size, seeds."""
    study = _resolved([arm], settings, tell)
    (one,), (seed,) = study.arms, study.config.seeds
    who = Who(one.label, seed, one.replicate, one.architecture, one.config)
    parameters = count_parameters(build_on_meta(one.architecture, one.config)).total
    threads = threads_at_once(study.config.execution, study.plan.device, parameters, available_cores())
    plan = study.plan.model_copy(update={"threads": threads})  # much of what is measured is too small for several

    def initial() -> LanguageModel:
        return plan.apply(build_model(one.architecture, one.config, seed, one.replicate))

    of = given(who, {"initial": initial}, plan, study.config.evaluation, one.training, study.dataset)
    return _looked(f"{one.label}, untrained", only, of, tell, how, kept_in(study, one, seed, plan))


def look_at_arms(
    arms: Sequence[ArmConfig], items: Sequence[StudyMeasurement[Any]], settings: Mapping[str, Any], tell: Tell
) -> Looked:
    """Untrained models of all `arms` at once, as those of a study: what is asked of arms that take turns."""
    study = _resolved(arms, settings, tell)
    given = given_study(arms_of(study), study.plan, study.config.seeds, tell)
    measuring = Measuring()
    found = [measuring.of_study(item, given, Measured(label="")) for item in items]
    results = in_order(result for result in found if result is not None)
    measuring.raise_failures()
    rows = [Row(arm.label, 1, columns_of(arm.label, [], results, LEVEL)) for arm in study.arms]
    said = [sentence for result in results.values() for sentence in result.sentences]
    name = f"{join_names([arm.label for arm in study.arms])}, untrained"
    return Looked(name, rows, said, {name: results}, list(results))


def _resolved(arms: Sequence[ArmConfig], settings: Mapping[str, Any], tell: Tell) -> Study:
    """The arms as a study of one seed; one that fixes neither its size nor a dimension has that of --size."""
    size = StudyConfig.parse({"arms": list(arms), **settings}).size if "size" in settings else DEFAULT_SIZE
    sized = [
        arm
        if arm.size is not None or {"d_model", "n_layers"} & set(arm.model)
        else arm.model_copy(update={"size": size})
        for arm in arms
    ]
    return resolve(StudyConfig.parse({"arms": sized, "seeds": [0], **settings}), tell)


def look_at_imported(
    subject: str, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> Looked:
    """The model of hf:PATH or of an imported folder, on text that its own tokenizer cuts, or on a task."""
    loaded = load_subject(subject)
    folder = locate(subject) if subject.startswith("hf:") else Path(subject)
    data = _data(loaded, folder, dict(settings.get("data", {})))
    context = settings.get("training", {}).get("context", TrainingConfig().context)
    config = StudyConfig.parse({**settings, "arms": ["gpt1"], "data": data, "training": _read_by(context)})
    return _look_at_loaded(loaded, config, resolve_plan(config.execution, tell), only, tell, how)


def look_at_run_on_task(
    folder: Path, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> Looked:
    """The trained run in `folder` on the task of `settings`, at its own context and evaluation unless they give others.

    Text that the task takes is that of the run. Nothing is stored.
    """
    loaded, run = load_run(folder), read_run_config(folder)
    data = _data(loaded, folder, dict(settings["data"]))
    if in_words(data["task"]) and _reads_corpus(data["task"]):
        text = run.data.model_dump(include={"corpus", "text_field", "split_by", "max_bytes"})
        data = {**text, **data}
    read = _read_by(settings.get("training", {}).get("context", run.training.context))
    evaluation = {**run.evaluation.model_dump(), **settings.get("evaluation", {})}
    config = StudyConfig.parse({**settings, "arms": ["gpt1"], "data": data, "training": read, "evaluation": evaluation})
    return _look_at_loaded(loaded, config, run.plan or resolve_plan(config.execution, tell), only, tell, how)


def _read_by(context: int) -> dict[str, int]:
    """The settings of a training that does not take place, which fit that context."""
    return {"context": context, "batch_tokens": context}


def _data(loaded: LoadedRun, folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """What a model is measured on, cut by its own tokenizer unless another is given; a task of ids has none.

    A task that the model has no vocabulary for is a RequestError.
    """
    task = data.get("task")
    if task is not None and not in_words(task):
        find_task(task)  # an unknown one is said first
        if loaded.tokenizer is not None:
            raise RequestError(
                f"--task {task}: its ids stand for no text, and {loaded.name} reads text; a task in words, as "
                "--task needle, would do"
            )
        return data
    if "tokenizer" in data:
        return data
    loaded.text_tokenizer()
    return {**data, "tokenizer": str(folder / TOKENIZER)}


def _reads_corpus(text: str) -> bool:
    task, axes = find_task(text)
    return isinstance(task, TextTask) and task.reads_corpus(axes)


def _look_at_loaded(
    loaded: LoadedRun, config: StudyConfig, plan: ExecutionPlan, only: Sequence[str] | None, tell: Tell, how: How
) -> Looked:
    dataset = load_dataset(config.data, tell)
    own, asked = loaded.config.vocab_size, dataset.vocab_size
    if dataset.tokenizer is None and asked != own:
        raise RequestError(
            f"--task {config.data.task}: has {asked} ids, {loaded.name} {own}; a task of as many would do"
        )
    if asked > own:
        raise RequestError(
            f"--tokenizer {config.data.tokenizer}: has {asked} tokens, {loaded.name} {own}; its own would do"
        )
    context, positions = config.training.context, loaded.architecture.max_positions(loaded.config)
    if positions is not None and context > positions:
        raise RequestError(f"--context {context}: {loaded.name} has {positions} positions; give at most that")
    if isinstance(dataset, TaskDataset):
        dataset.refuse(context, config.training.order, config.evaluation.test_tokens)
    who = Who(loaded.name, 0, 0, loaded.architecture, loaded.config)
    models: dict[Need, Callable[[], LanguageModel]] = {"trained": lambda: plan.apply(loaded.model)}
    of = given(who, models, plan, config.evaluation, config.training, dataset, learned=False)
    return _looked(loaded.name, only, of, tell, how)


def look_at_file(
    file: Subject, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> list[Looked]:
    """An untrained model of every architecture that the file registers, or of the one that FILE.py:NAME names."""
    architectures = architectures_in(file)
    if not architectures:
        which = f" {file.name!r}" if file.name else ""
        raise RequestError(
            f"{file.text}: registers no architecture{which}; `assay audit` takes any torch.nn.Module, this does not"
        )
    return [look_at_arm(parse_arm(architecture.name), only, settings, tell, how) for architecture in architectures]


def architectures_in(file: Subject) -> list[Architecture]:
    """What the file registers, or the one that FILE.py:NAME names."""
    return [item for item in registered_by(file.path) if file.name in ("", item.name)]


def of_task(task: TaskDataset | None) -> frozenset[Need]:
    """The needs that data of `task` meet."""
    if task is None:
        return frozenset()
    met: set[Need] = {"task"} if task.task.capacity is None else {"task", "capacity"}
    if isinstance(task, TextTaskDataset):
        met |= {"words"} if task.mixed_with is None else {"words", "mixture"}
    return frozenset(met)


def _looked(
    name: str,
    only: Sequence[str] | None,
    of: Given,
    tell: Callable[[str], None],
    how: How,
    folder: Path | None = None,
) -> Looked:
    """All of `only`, or of the defaults, that the model has what it takes for; a line for each of the others.

    What lies in `folder` is not measured again, and each result is written there as soon as it is there.
    """
    of = dataclasses.replace(how.of(of), tell=tell)
    available = of_task(of.task) | of.models.keys()
    asked = named(expanded(usual_measurements(None if of.task is None else of.task.name) if only is None else only))
    items, left_out = how.possible(asked)
    of_models = [item for item in items if isinstance(item, Measurement)]
    able = [item for item in of_models if item.unmet(available) is None]
    notes = left_out if only is not None else []
    who = name if "trained" in of.models else "an untrained model"
    notes += [f"{item.name}: {item.unmet(available)}; {who} has none" for item in of_models if item not in able]
    notes += [] if only is None else of_studies(items, name)
    had = {} if folder is None else kept(folder, able, how)
    if had:
        notes.append(f"{name}: {join_names(list(had))} measured by an earlier call ({folder})")
    to_do = {item.name: item for item in able if item.name not in had}
    tell(f"{name}: measuring {', '.join(to_do)}")
    measured = Measured(label=of.label, seed=of.seed)
    measuring = Measuring(of)

    def write(result: MeasurementResult) -> None:
        if folder is not None:
            keep(folder, to_do[result.measurement], result)

    new = measuring.results(list(to_do.values()), measured, keep=write)
    results = in_order([*had.values(), *new])
    measuring.raise_failures()
    rows = [Row(name, 1, columns_of(of.label, [results], {}, LEVEL))] if able else []
    said = [f"{name}: {sentence}" for result in results.values() for sentence in result.sentences]
    return Looked(name, rows, said, {name: results}, [result.measurement for result in new], notes)
