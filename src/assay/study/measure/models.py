"""What `assay measure` does with models that no run here trained: untrained arms, imported ones."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.analysis.columns import columns_of
from assay.analysis.statistics import LEVEL
from assay.data.corpus import Tell
from assay.data.dataset import load_dataset
from assay.data.task import TaskDataset
from assay.data.worded.dataset import TextTaskDataset
from assay.errors import RequestError
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import Given, Measurement, Need, expanded, named
from assay.evaluation.measuring import Measuring
from assay.hub.folder import TOKENIZER, locate
from assay.model.accounting import count_parameters
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.model.plan import available_cores, resolve_plan
from assay.model.sizing import build_on_meta
from assay.records import Measured
from assay.records.results import in_order
from assay.study.arm import ArmConfig, parse_arm
from assay.study.asked import DEFAULT_SIZE, StudyConfig, usual_measurements
from assay.study.machine import threads_at_once
from assay.study.measure.given import Who, given
from assay.study.measure.how import EVERYTHING, How
from assay.study.measure.runs import Looked, Row, of_studies
from assay.study.resolve import resolve
from assay.study.subject.file import registered_by
from assay.study.subject.lookup import load_subject
from assay.study.subject.run import LoadedRun
from assay.study.subject.subject import Subject
from assay.training.config import TrainingConfig


def look_at_arm(
    arm: ArmConfig, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> Looked:
    """An untrained model of `arm`; `settings` are those of a study: its data, training.context, size, seeds."""
    by_hand = {"d_model", "n_layers"} & set(arm.model)
    sized = {} if by_hand or arm.size is not None else {"size": DEFAULT_SIZE}
    study = resolve(StudyConfig.parse({"arms": [arm], "seeds": [0], **sized, **settings}), tell)
    (one,), (seed,) = study.arms, study.config.seeds
    who = Who(one.label, seed, one.replicate, one.architecture, one.config)
    parameters = count_parameters(build_on_meta(one.architecture, one.config)).total
    threads = threads_at_once(study.config.execution, study.plan.device, parameters, available_cores())
    plan = study.plan.model_copy(update={"threads": threads})  # much of what is measured is too small for several

    def initial() -> LanguageModel:
        return plan.apply(build_model(one.architecture, one.config, seed, one.replicate))

    of = given(who, {"initial": initial}, plan, study.config.evaluation, one.training, study.dataset)
    return _looked(f"{one.label}, untrained", only, of, tell, how)


def look_at_imported(
    subject: str, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> Looked:
    """The model of hf:PATH or of an imported folder, on text that its own tokenizer cuts."""
    loaded = load_subject(subject)
    data = dict(settings.get("data", {}))
    if "tokenizer" not in data:
        data["tokenizer"] = str(_tokenizer(subject, loaded))
    config = StudyConfig.parse({**settings, "arms": ["gpt1"], "data": data})
    dataset = load_dataset(config.data, tell)
    if dataset.vocab_size > loaded.config.vocab_size:
        raise RequestError(
            f"--tokenizer {config.data.tokenizer}: has {dataset.vocab_size} tokens, {subject} "
            f"{loaded.config.vocab_size}; its own would do"
        )
    plan = resolve_plan(config.execution, tell)
    who = Who(subject, 0, 0, loaded.architecture, loaded.config)
    training: TrainingConfig = config.training
    evaluation: EvaluationConfig = config.evaluation
    of = given(who, {"trained": lambda: plan.apply(loaded.model)}, plan, evaluation, training, dataset)
    return _looked(subject, only, of, tell, how)


def look_at_file(
    file: Subject, only: Sequence[str] | None, settings: Mapping[str, Any], tell: Tell, how: How = EVERYTHING
) -> list[Looked]:
    """An untrained model of every architecture that the file registers, or of the one that FILE.py:NAME names."""
    architectures = [item for item in registered_by(file.path) if file.name in ("", item.name)]
    if not architectures:
        which = f" {file.name!r}" if file.name else ""
        raise RequestError(
            f"{file.text}: registers no architecture{which}; `assay audit` takes any torch.nn.Module, this does not"
        )
    return [look_at_arm(parse_arm(architecture.name), only, settings, tell, how) for architecture in architectures]


def _tokenizer(subject: str, loaded: LoadedRun) -> Path:
    loaded.text_tokenizer()
    folder = locate(subject) if subject.startswith("hf:") else Path(subject)
    return folder / TOKENIZER


def of_task(task: TaskDataset | None) -> frozenset[Need]:
    """The needs that data of `task` meet."""
    if task is None:
        return frozenset()
    met: set[Need] = {"task"} if task.task.capacity is None else {"task", "capacity"}
    if isinstance(task, TextTaskDataset):
        met |= {"words"} if task.mixed_with is None else {"words", "mixture"}
    return frozenset(met)


def _looked(name: str, only: Sequence[str] | None, of: Given, tell: Callable[[str], None], how: How) -> Looked:
    """All of `only`, or of the defaults, that the model has what it takes for; a line for each of the others."""
    of = dataclasses.replace(how.of(of), tell=tell)
    available = of_task(of.task) | of.models.keys()
    asked = named(expanded(usual_measurements(None if of.task is None else of.task.name) if only is None else only))
    items, left_out = how.possible(asked)
    of_models = [item for item in items if isinstance(item, Measurement)]
    able = [item for item in of_models if item.unmet(available) is None]
    notes = left_out if only is not None else []
    notes += [f"{item.name}: {item.unmet(available)}; {name} has none" for item in of_models if item not in able]
    notes += [] if only is None else of_studies(items, name)
    tell(f"{name}: measuring {', '.join(item.name for item in able)}")
    measured = Measured(label=of.label, seed=of.seed)
    measuring = Measuring(of)
    results = in_order(measuring.results(able, measured))
    measuring.raise_failures()
    rows = [Row(name, 1, columns_of(of.label, [results], {}, LEVEL))] if able else []
    said = [f"{name}: {sentence}" for result in results.values() for sentence in result.sentences]
    return Looked(name, rows, said, {name: results}, list(results), notes)
