"""What a measurement is given of a run, of the arms of a study, or of a model from anywhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from assay.data.dataset import Dataset, TextDataset
from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset
from assay.data.text.elsewhere import TextWindows, text_windows, windows_digest
from assay.data.worded.dataset import TextTaskDataset
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import Given, GivenArm, GivenStudy, Need, Text
from assay.model.architecture import Architecture, ModelConfig, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import RunRecord
from assay.study.measure.results import read_courses, read_steps, there_is
from assay.study.resolve import ResolvedArm, Study
from assay.study.subject.run import load_run
from assay.training.config import TrainingConfig

OTHER_TEXT_TOKENS = 16_384
"""Targets of each text that a model is scored on beside its own."""


def given_run(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> Given:
    """The run of `arm` with `seed` in `folder`."""
    who = Who(arm.label, seed, arm.replicate, arm.architecture, arm.config)
    return given_folder(folder, who, study.plan, study.config.evaluation, arm.training, study.dataset)


class Who(NamedTuple):
    """Which model it is, and what its untrained weights follow from."""

    label: str
    seed: int
    replicate: int
    architecture: Architecture
    config: ModelConfig


def given_folder(
    folder: Path,
    who: Who,
    plan: ExecutionPlan,
    evaluation: EvaluationConfig,
    training: TrainingConfig,
    dataset: Dataset,
) -> Given:
    """A run in `folder`; its trained weights are read from there, the untrained ones follow from seed and replicate.

    Read from there also right after training, so that a later measurement gives the same. Of a run that another assay
    made there are no untrained weights: this one may draw others. One that diverged has no trained ones.
    """

    def initial() -> LanguageModel:
        return plan.apply(build_model(who.architecture, who.config, who.seed, who.replicate))

    def trained() -> LanguageModel:
        return plan.apply(load_run(folder).model)

    models: dict[Need, Callable[[], LanguageModel]] = {"initial": initial, "trained": trained}
    if (folder / "record.json").exists():
        there = there_is(RunRecord.read(folder / "record.json"))
        models = {need: model for need, model in models.items() if need in there}
    of = given(who, models, plan, evaluation, training, dataset, read_courses(folder))
    return replace(of, steps=read_steps(folder))


def given(
    who: Who,
    models: Mapping[Need, Callable[[], LanguageModel]],
    plan: ExecutionPlan,
    evaluation: EvaluationConfig,
    training: TrainingConfig,
    dataset: Dataset,
    courses: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    learned: bool = True,
) -> Given:
    """Any model, on what `dataset` holds out; `learned`: whether it was trained on the sequences of its seed."""
    windows = texts(dataset, evaluation, training, who.seed)
    if not learned:
        windows.pop("training", None)
    return Given(
        label=who.label,
        seed=who.seed,
        architecture=who.architecture,
        config=who.config,
        plan=plan,
        evaluation=evaluation,
        models=models,
        texts=windows,
        tokenizer=dataset.tokenizer,
        invertible=dataset.invertible,
        task=dataset if isinstance(dataset, TaskDataset) else None,
        protocol=training,
        courses=courses or {},
        recut=None if isinstance(dataset, TaskDataset) else partial(dataset.held_out, evaluation.split),
        elsewhere=_elsewhere(dataset, evaluation, training.context, windows["held_out"]),
    )


def _elsewhere(
    dataset: Dataset, evaluation: EvaluationConfig, context: int, held_out: Callable[[], ScoringWindows]
) -> dict[str, Callable[[], TextWindows]]:
    """Corpus -> windows of it; of the corpus that is trained on, what is held out."""
    tokenizer = dataset.tokenizer
    if tokenizer is None:
        return {}
    tokens = min(evaluation.test_tokens or OTHER_TEXT_TOKENS, OTHER_TEXT_TOKENS)
    of: dict[str, Callable[[], TextWindows]] = {
        corpus: partial(text_windows, corpus, tokenizer, context, tokens) for corpus in evaluation.texts
    }
    if isinstance(dataset, TextDataset) and dataset.corpus.name in of:

        def own() -> TextWindows:
            windows = held_out()
            return TextWindows(windows, dataset.invertible, windows_digest(windows), own=True)

        of[dataset.corpus.name] = own
    return of


def arms_of(study: Study) -> list[GivenArm]:
    """The arms of a resolved study."""
    return [GivenArm(arm.label, arm.architecture, arm.config, arm.training) for arm in study.arms]


def given_study(
    arms: Sequence[GivenArm], plan: ExecutionPlan, seeds: Iterable[int], tell: Callable[[str], None]
) -> GivenStudy:
    """All arms of a study, with the lowest of its seeds, in whatever order they were asked for."""
    return GivenStudy(arms, plan, min(seeds), tell)


def texts(
    dataset: Dataset, evaluation: EvaluationConfig, training: TrainingConfig, seed: int
) -> dict[Text, Callable[[], ScoringWindows]]:
    """The windows that every run of a study is measured on.

    Of a task also those that the run of `seed` learned, and of a mixture those of its text.
    """
    context, targets = training.context, training.validation_tokens
    held_out: dict[Text, Callable[[], ScoringWindows]] = {
        "held_out": cache(lambda: dataset.held_out(evaluation.split, context, evaluation.test_tokens)),
        "validation": cache(lambda: dataset.held_out("validation", context, targets)),
    }
    if not isinstance(dataset, TaskDataset):
        return held_out
    held_out["training"] = cache(lambda: dataset.trained_on(context, training.batch_size, seed, targets))
    if isinstance(dataset, TextTaskDataset) and dataset.mixed_with is not None:
        split, tokens = evaluation.split, evaluation.test_tokens
        held_out["mixed"] = cache(lambda: dataset.text_held_out(split, context, tokens))
    return held_out
