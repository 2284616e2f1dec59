"""The runs of one stage as a study, and how they are carried out; what tuning found decides the rates of later ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.errors import RequestError
from assay.gating.asked import CONTROL, DECAY_SHARE, PLACEBO, GateRequest
from assay.records import MeasuredRun
from assay.records.gate import Stage
from assay.records.results import LIKELIHOOD, RECALL, TEXTS
from assay.study.arm import ArmConfig
from assay.study.asked import StudyConfig
from assay.study.compare import Listener
from assay.study.executor.capacity import resolve_workers
from assay.study.executor.execute import execute
from assay.study.folder import lock, open_folder, stored_config
from assay.study.jobs import job_of
from assay.study.resolve import Study, resolve
from assay.training.config import TrainingConfig

Rates = Mapping[str, Sequence[float]]
"""Arm -> the learning rates with which it runs."""


def arms_of(request: GateRequest) -> dict[str, ArmConfig]:
    """Label -> arm, the placebo and the control too."""
    arms = {arm.label: arm for arm in (request.baseline, *request.candidates)}
    if request.placebo:
        base = request.baseline
        arms[PLACEBO] = base.model_copy(update={"label": PLACEBO, "replicate": base.replicate + 1})
        arms[CONTROL] = base.model_copy(update={"label": CONTROL})
    return arms


def study_of(
    request: GateRequest, stage: Stage, rates: Rates, base: StudyConfig, further: Sequence[str] = ()
) -> StudyConfig:
    """The study of `stage`; `base` is the protocol with its execution resolved, `further` are measurements beside
    its own.

    An arm with several rates runs once with each, under the label `ARM@lr=RATE`. Tuning is scored on the validation
    split alone, and measures nothing else.
    """
    known = arms_of(request)
    steps = -(-stage.tokens // base.training.batch_tokens)
    training: dict[str, object] = {"tokens": stage.tokens}
    if stage.budgets:  # their runs begin with the steps of the longer ones, so that the warm-up is that of the longer
        training |= {"branches": stage.budgets}
        training |= {"warmup_tokens": _warmup_tokens(base.training, request.baseline, stage.tokens)}
    arms = []
    for label in stage.arms:
        arm = known[label]
        for rate in rates[label]:
            own = {**arm.training, "learning_rate": rate, "weight_decay": 1 / (DECAY_SHARE * rate * steps)}
            if stage.budgets:
                own["warmup_tokens"] = _warmup_tokens(base.training, arm, stage.tokens)
            name = label if stage.kind in ("judged", "control", "pilot") else f"{label}@lr={rate:g}"
            arms.append(arm.model_copy(update={"label": name, "training": own}))
    update: dict[str, object] = {
        "arms": arms,
        "size": stage.size,
        "sizes": [],
        "seeds": list(stage.seeds),
        "training": base.training.model_copy(update=training),
    }
    if stage.kind in ("judged", "control"):
        baseline = request.baseline.label
        alone = len(arms) == 1
        beside = [RECALL] if base.data.task is not None else [RECALL, TEXTS]
        asked = [LIKELIHOOD] if alone else [*base.measurements, *further]
        update["measurements"] = list(dict.fromkeys([*asked, *beside]))
        update["rule"] = base.rule.model_copy(update={"baseline": None if alone else baseline})
    else:
        update["measurements"] = [LIKELIHOOD]
        update["evaluation"] = base.evaluation.model_copy(update={"split": "validation"})
    return base.model_copy(update=update)


def _warmup_tokens(training: TrainingConfig, arm: ArmConfig, tokens: int) -> int:
    """Of a run of `arm` to `tokens`, in whole batches."""
    own = TrainingConfig.parse({**training.model_dump(), **arm.training, "tokens": tokens})
    return own.warmup_steps * own.batch_tokens


def carry_out_runs(config: StudyConfig, folder: Path, listener: Listener, workers: int | None) -> list[MeasuredRun]:
    """Train and score the runs of a stage that only tunes: no audit, no page. What is done is read."""
    stored = stored_config(folder, "study")
    if stored is not None:
        if stored.identity() != config.identity() or stored.seeds != config.seeds:
            raise RequestError(f"--out {folder.parent}: {folder.name} holds other runs; a new folder would do")
        config = stored
    study = resolve(config, listener.message)
    resolved = study.config.model_copy(update={"plan": study.plan, "corpus_digest": study.dataset.digest})
    study = Study(resolved, study.arms, study.dataset, study.plan)
    open_folder(folder, resolved)
    with lock(folder):
        jobs = [job_of(study, arm, seed, folder) for seed in study.config.seeds for arm in study.arms]
        return execute(jobs, resolve_workers(workers, study), listener)
