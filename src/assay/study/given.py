"""What a measurement is given of a run, of the arms of a study, or of a model from anywhere."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.tokenized import TokenizedCorpus
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import CourseObserver, Given, GivenArm, GivenStudy, Need, Text
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan, compiled
from assay.study.resolve import Arm, Study
from assay.study.subject import load_run
from assay.training.config import TrainingConfig

Course = Mapping[str, CourseObserver]


def given_run(study: Study, arm: Arm, seed: int, folder: Path, course: Course | None = None) -> Given:
    """The run of `arm` with `seed` in `folder`; its trained weights are read from there, the others built again.

    Read again also right after training, so that a later measurement gives the same.
    """
    plan = study.plan

    def initial() -> LanguageModel:
        return ready(build_model(arm.architecture, arm.config, seed, arm.replicate), plan)

    def trained() -> LanguageModel:
        return ready(load_run(folder).model, plan)

    models: dict[Need, Callable[[], LanguageModel]] = {"initial": initial, "trained": trained}
    return Given(
        label=arm.label,
        seed=seed,
        architecture=arm.architecture,
        config=arm.config,
        plan=plan,
        evaluation=study.config.evaluation,
        models=models,
        texts=texts(study.corpus, study.config.evaluation, arm.training),
        tokenizer=study.corpus.tokenizer,
        invertible=study.corpus.invertible,
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
