"""What a measurement is given of a run, of the arms of a study, or of a model from anywhere."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.tokenized import TokenizedCorpus
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import CourseObserver, Given, GivenArm, GivenStudy, Need, Text
from assay.model.architecture import Architecture, ModelConfig, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan, compiled
from assay.study.resolve import Arm, Study
from assay.study.subject import load_run
from assay.training.config import TrainingConfig

Course = Mapping[str, CourseObserver]


def given_run(study: Study, arm: Arm, seed: int, folder: Path, course: Course | None = None) -> Given:
    """The run of `arm` with `seed` in `folder`."""
    who = Who(arm.label, seed, arm.replicate, arm.architecture, arm.config)
    return given_folder(folder, who, study.plan, study.config.evaluation, arm.training, study.corpus, course)


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
    corpus: TokenizedCorpus,
    course: Course | None = None,
) -> Given:
    """A run in `folder`; its trained weights are read from there, the untrained ones follow from seed and replicate.

    Read from there also right after training, so that a later measurement gives the same.
    """

    def initial() -> LanguageModel:
        return ready(build_model(who.architecture, who.config, who.seed, who.replicate), plan)

    def trained() -> LanguageModel:
        return ready(load_run(folder).model, plan)

    return given(who, {"initial": initial, "trained": trained}, plan, evaluation, training, corpus, course)


def given(
    who: Who,
    models: Mapping[Need, Callable[[], LanguageModel]],
    plan: ExecutionPlan,
    evaluation: EvaluationConfig,
    training: TrainingConfig,
    corpus: TokenizedCorpus,
    course: Course | None = None,
) -> Given:
    """Any model, on the held-out text of `corpus`."""
    return Given(
        label=who.label,
        seed=who.seed,
        architecture=who.architecture,
        config=who.config,
        plan=plan,
        evaluation=evaluation,
        models=models,
        texts=texts(corpus, evaluation, training),
        tokenizer=corpus.tokenizer,
        invertible=corpus.invertible,
        course=course or {},
    )


def given_study(study: Study, tell: Callable[[str], None]) -> GivenStudy:
    """All arms of a study."""
    arms = [GivenArm(arm.label, arm.architecture, arm.config, arm.training) for arm in study.arms]
    return GivenStudy(arms, study.plan, study.config.seeds[0], tell)


def ready(model: LanguageModel, plan: ExecutionPlan) -> LanguageModel:
    """`model` as the plan runs it."""
    model = plan.apply(model)
    compiled(model, plan)
    return model


def texts(
    corpus: TokenizedCorpus, evaluation: EvaluationConfig, training: TrainingConfig
) -> dict[Text, Callable[[], ScoringWindows]]:
    """The windows that every run of a study is measured on."""

    def windows(split: str, tokens: int | None) -> ScoringWindows:
        # One evaluation seed for all runs: every arm and seed is scored on the same targets.
        of = corpus.validation if split == "validation" else corpus.test
        return scoring_windows(of, training.context, corpus.tokenizer.token_bytes, 0, tokens)

    return {
        "held_out": cache(lambda: windows(evaluation.split, evaluation.test_tokens)),
        "validation": cache(lambda: windows("validation", training.validation_tokens)),
    }
