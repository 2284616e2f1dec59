"""The short trainings of the sanity checks: the one training loop, on a part of the data or on a few tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.analysis.sanity import SanityLimits, ambiguity_nats
from assay.data.batches import Batch, Batches
from assay.data.scoring import ScoringWindows
from assay.evaluation.scoring import mean_nats
from assay.model.architecture import build_model
from assay.records.sanity import ShortRun
from assay.study.resolve import ResolvedArm, Study
from assay.study.run import read_metrics
from assay.targets import IGNORED
from assay.training.config import TrainingConfig
from assay.training.loop import Observer, TrainingRun


@dataclass
class SameBatch:
    """One batch at every step."""

    given: Batch
    seed: int

    def batch(self, step: int) -> Batch:
        """The batch, whatever the step."""
        return self.given


def run_part(
    study: Study, arm: ResolvedArm, folder: Path, limits: SanityLimits, observers: Sequence[Observer]
) -> ShortRun:
    """Train `arm` in `folder` on a part of its tokens, with the schedule of a run that is as short."""
    of = arm.training
    steps = max(limits.least_steps, round(limits.share * of.steps))
    training = changed(of, tokens=steps * of.batch_tokens)
    seed = study.config.seeds[0]
    batches = study.dataset.batches(of.context, of.batch_size, seed, of.order, steps)
    held_out = study.dataset.held_out("validation", of.context, of.validation_tokens)
    return _train(study, arm, folder, training, batches, held_out, observers)


def run_overfitting(
    study: Study, arm: ResolvedArm, folder: Path, limits: SanityLimits, observers: Sequence[Observer]
) -> ShortRun:
    """Train `arm` in `folder` on the same few tokens until their loss is near zero or steps are used up."""
    batch = few_tokens(study, limits.overfit_tokens)
    rows, context = batch.inputs.shape
    training = changed(
        arm.training,
        tokens=limits.overfit_steps * rows * context,
        batch_tokens=rows * context,
        context=context,
        schedule="constant",
        warmup_share=0.05,
        weight_decay=0.0,
        validation_interval=10,
        stop_at_nats=floor_nats(batch) + limits.overfit_nats,
    )
    return _train(study, arm, folder, training, SameBatch(batch, study.config.seeds[0]), _as_windows(batch), observers)


def few_tokens(study: Study, tokens: int) -> Batch:
    """Whole windows of the first training batch, about so many tokens; the same for every arm."""
    of = study.config.training
    context = min(of.context, tokens)
    rows = max(1, tokens // context)
    return study.dataset.batches(context, rows, study.config.seeds[0], of.order).batch(0)


def floor_nats(batch: Batch) -> float:
    """What no model gets below on it."""
    windows = list(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True))
    return ambiguity_nats(windows, IGNORED)


def changed(training: TrainingConfig, **changes: object) -> TrainingConfig:
    """The training with other lengths: one micro-batch, nothing kept, the last weights, intervals of its own."""
    alone: dict[str, object] = {"micro_batch_tokens": None, "keep": [], "weights": "last", "validation_interval": None}
    alone |= {"checkpoint_interval": None, "stop_at_nats": None, "branches": []}
    if training.warmup_tokens is not None:  # of a shorter run it is the same share
        alone |= {"warmup_tokens": None, "warmup_share": min(1.0, training.warmup_steps / training.steps)}
    return TrainingConfig.parse({**training.model_dump(), **alone, **changes})


def _train(
    study: Study,
    arm: ResolvedArm,
    folder: Path,
    training: TrainingConfig,
    batches: Batches,
    held_out: ScoringWindows,
    observers: Sequence[Observer],
) -> ShortRun:
    """Train to the end, from the last checkpoint if there is one; not compiled, as it is short."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = study.plan.model_copy(update={"compile": False})
    model = build_model(arm.architecture, arm.config, study.config.seeds[0], arm.replicate)
    progress = TrainingRun(
        folder,
        model,
        batches,
        training,
        plan,
        lambda trained: mean_nats(trained, held_out, plan),
        observers,
        arm.replicate,
    ).go()
    rows = read_metrics(folder)
    validations = [row["validation_nats_per_token"] for row in rows if row["validation_nats_per_token"] is not None]
    finished = progress.status == "finished"
    return ShortRun(
        label=arm.label,
        status="finished" if finished else "diverged",
        nats=[row["nats_per_token"] for row in rows],
        gradient_norms=[row["gradient_norm"] for row in rows],
        validation_nats=validations[-1] if finished and validations else None,
    )


def _as_windows(batch: Batch) -> ScoringWindows:
    """The batch as what is scored; each row is a document of its own, and bytes are not known."""
    rows = np.arange(len(batch.inputs))
    zeros = np.zeros(len(rows), np.int64)
    return ScoringWindows(batch.inputs, batch.targets, rows, rows, zeros, zeros)
