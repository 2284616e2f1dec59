"""One run of a study in a directory of its own: trained, measured, and recorded; locked against a second process."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from assay.data.batches import PackedWindows
from assay.data.scoring import ScoringWindows, scoring_windows
from assay.evaluation.likelihood import measure_likelihood
from assay.evaluation.output_health import measure_output_health
from assay.evaluation.signals import measure_signals
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.records import CurvePoint, RunRecord, SignalProfile
from assay.study.folder import discard, lock, open_folder, refuse_other, stored_config
from assay.study.protocol import Arm, Study, StudyConfig, resolve
from assay.training.checkpoint import Progress
from assay.training.loop import Observer, TrainingRun
from assay.training.plan import environment
from assay.training.validation import mean_nats


def train(config: StudyConfig, folder: Path, tell: Callable[[str], None], observers: Sequence[Observer]) -> RunRecord:
    """Train the one arm and the one seed of `config` in `folder`, or finish what was begun there."""
    stored = stored_config(folder)
    plan = stored.plan if stored is not None else config.plan
    study = resolve(config.model_copy(update={"plan": plan}), tell)
    (arm,), (seed,) = study.arms, config.seeds
    resolved = run_config(study, arm, seed)
    if stored is not None:
        refuse_other(stored, resolved, folder)
    made = open_folder(folder, resolved)
    try:
        return run_arm(study, arm, seed, folder, observers)
    except OSError:
        if not (folder / "checkpoint").exists():
            discard(made)
        raise


def run_arm(study: Study, arm: Arm, seed: int, folder: Path, observers: Sequence[Observer] = ()) -> RunRecord:
    """Train one architecture with one seed in `folder`, or finish what was begun there, and return its record.

    A finished run is read, not repeated.
    """
    open_folder(folder, run_config(study, arm, seed))
    with lock(folder):
        if (folder / "record.json").exists():
            return RunRecord.read(folder / "record.json")
        study.corpus.tokenizer.save(folder / "tokenizer.json")
        return _Run(study, arm, seed, folder).go(observers)


def run_config(study: Study, arm: Arm, seed: int) -> StudyConfig:
    """The resolved configuration of one run, with the execution plan: a study of one arm and one seed."""
    dimensions = {name: value for name, value in arm.config.model_dump().items() if value is not None}
    one = {"architectures": [arm.architecture.name], "seeds": [seed], "size": None, "model": dimensions}
    return study.config.model_copy(update={**one, "plan": study.plan})


class _Run:
    """The pieces of one run."""

    def __init__(self, study: Study, arm: Arm, seed: int, folder: Path) -> None:
        self.study = study
        self.arm = arm
        self.seed = seed
        self.folder = folder
        self.training = study.config.training
        self.validation = self._windows("validation", self.training.validation_tokens)

    def go(self, observers: Sequence[Observer]) -> RunRecord:
        model = build_model(self.arm.architecture, self.arm.config, self.seed)
        windows = PackedWindows(
            self.study.corpus.train.ids, self.training.context, seed=self.seed, order=self.training.order
        )
        plan = self.study.plan
        run = TrainingRun(
            self.folder,
            model,
            windows,
            self.training,
            plan,
            lambda m: mean_nats(m, self.validation, plan),
            observers,
        )
        initial = self._initial_signals(run.model)
        progress = run.go()
        record = self._record(run.model, progress, initial)
        record.write(self.folder / "record.json")
        return record

    def _windows(self, split: Literal["validation", "test"], tokens: int | None) -> ScoringWindows:
        # One evaluation seed for all runs: every arm and seed is scored on the same targets.
        corpus = self.study.corpus
        return scoring_windows(corpus.split(split), self.training.context, corpus.tokenizer.token_bytes, 0, tokens)

    def _initial_signals(self, model: LanguageModel) -> SignalProfile:
        """Of the untrained weights: measured before a checkpoint is loaded, as the same seed gives the same weights."""
        return measure_signals(model, self._signal_inputs(), self.study.plan)

    def _signal_inputs(self) -> np.ndarray:
        """The fullest of the first validation windows, cut to a common length."""
        lengths = (self.validation.targets >= 0).sum(1)
        rows = np.sort(np.argsort(-lengths, kind="stable")[: self.study.config.evaluation.signal_windows])
        return self.validation.inputs[rows][:, : int(lengths[rows].min())]

    def _record(self, model: LanguageModel, progress: Progress, initial: SignalProfile) -> RunRecord:
        study, plan = self.study, self.study.plan
        finished = progress.status == "finished"
        test = self._windows("test", study.config.evaluation.test_tokens) if finished else None
        rows = read_metrics(self.folder)
        return RunRecord(
            architecture=self.arm.architecture.name,
            seed=self.seed,
            status="finished" if finished else "diverged",
            steps=progress.step,
            tokens=progress.tokens,
            parameters=count_parameters(model),
            flops_per_token=count_flops(model, self.training.context),
            state_bytes=count_state_bytes(model, self.training.context, plan.bytes_per_element),
            dimensions=self.arm.config.model_dump(mode="json"),
            test=None if test is None else measure_likelihood(model, test, plan, study.corpus.invertible),
            training_curve=[_point(row, "nats_per_token") for row in rows],
            validation_curve=[
                _point(row, "validation_nats_per_token") for row in rows if row["validation_nats_per_token"] is not None
            ],
            signals_initial=initial,
            signals_trained=measure_signals(model, self._signal_inputs(), plan) if finished else None,
            output_health=None if test is None else measure_output_health(model, test, plan),
            train_tokens_per_second=tokens_per_second(rows, self.training.batch_tokens),
            peak_memory_bytes=progress.peak_memory_bytes,
            data_chain=progress.chain,
            forms=progress.forms,
            interruptions=progress.interruptions,
            chain_broken=progress.chain_broken,
            corpus_digest=study.corpus.digest,
            environment=environment(plan),
        )


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, one a step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def tokens_per_second(rows: list[dict[str, float]], batch_tokens: int) -> float:
    """The median over steps after the first, which warms caches up."""
    seconds = [row["seconds"] for row in rows[1:] or rows]
    return batch_tokens / statistics.median(seconds)


def _point(row: dict[str, float], key: str) -> CurvePoint:
    return CurvePoint(step=int(row["step"]), tokens=int(row["tokens"]), nats_per_token=row[key])
