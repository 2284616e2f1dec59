"""One run of a study in a directory of its own: trained, measured, and recorded; locked against a second process."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from assay.data.scoring import ScoringWindows
from assay.errors import RequestError
from assay.evaluation.likelihood import measure_likelihood
from assay.evaluation.output_health import measure_output_health
from assay.evaluation.scoring import mean_nats
from assay.evaluation.signals import measure_signals
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import build_model
from assay.model.lm import LanguageModel
from assay.records import CurvePoint, RunRecord, SignalProfile
from assay.study.asked import StudyConfig
from assay.study.folder import discard, lock, open_folder, refuse_other_run, stored_config
from assay.study.resolve import ResolvedArm, Study, resolve
from assay.training.checkpoint import TrainingProgress, recover
from assay.training.environment import assay_version, environment
from assay.training.loop import Observer, TrainingRun

PATIENCE_SECONDS = 5.0
"""How long a run waits for its lock: a worker whose parent was killed is about to die."""


def train(config: StudyConfig, folder: Path, tell: Callable[[str], None], observers: Sequence[Observer]) -> RunRecord:
    """Train the one arm and the one seed of `config` in `folder`, or finish what was begun there."""
    stored = stored_config(folder, "run")
    if stored is not None:
        same_data = stored.data == config.data
        digest = config.corpus_digest or (stored.corpus_digest if same_data else None)
        written = {"plan": config.plan or stored.plan, "corpus_digest": digest}
        config = config.model_copy(update=written)
    study = resolve(config, tell)
    if len(study.arms) != 1 or len(config.seeds) != 1:
        raise RequestError(f"--config: {len(study.arms)} arms and {len(config.seeds)} seeds; a run has one of each")
    (arm,), (seed,) = study.arms, config.seeds
    resolved = study.run_config(arm, seed)
    if stored is not None:
        refuse_other_run(stored, resolved, folder)
    made = open_folder(folder, resolved)
    try:
        return carry_out(study, arm, seed, folder, observers)
    except OSError:
        if not (folder / "checkpoint").exists():
            discard(made)
        raise


def carry_out(study: Study, arm: ResolvedArm, seed: int, folder: Path, observers: Sequence[Observer] = ()) -> RunRecord:
    """Train one arm with one seed in `folder`, or finish what was begun there, and return its record.

    A finished run is read, not repeated; a half-done one is not finished by another assay.
    """
    open_folder(folder, study.run_config(arm, seed))
    with lock(folder, PATIENCE_SECONDS):
        if (record := finished_record(study, arm, seed, folder)) is not None:
            return record
        _refuse_other_code(folder)
        if study.dataset.tokenizer is not None:
            study.dataset.tokenizer.save(folder / "tokenizer.json")
        return _Run(study, arm, seed, folder).go(observers)


def finished_record(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> RunRecord | None:
    """The record of a run that has ended, None where it has not; that of another run is a RequestError."""
    if not (folder / "record.json").exists():
        return None
    record = RunRecord.read(folder / "record.json")
    if record.spec_digest != study.digest(arm, seed):
        raise RequestError(f"{folder}: holds another run (its spec differs); a new folder would do")
    return record


def _refuse_other_code(folder: Path) -> None:
    """Raise a RequestError where a half-done run was begun by another assay: its steps would be of two programs."""
    if not recover(folder / "checkpoint"):
        return
    begun = TrainingProgress.read(folder / "checkpoint" / "progress.json").environment.get("assay")
    if begun != assay_version():
        raise RequestError(
            f"--out {folder}: was begun by assay {begun} and this is {assay_version()}; that one can finish it, or a "
            "new folder would do"
        )


class _Run:
    """The pieces of one run."""

    def __init__(self, study: Study, arm: ResolvedArm, seed: int, folder: Path) -> None:
        self.study = study
        self.arm = arm
        self.seed = seed
        self.folder = folder
        self.training = arm.training
        self.validation = self._windows("validation", self.training.validation_tokens)

    def go(self, observers: Sequence[Observer]) -> RunRecord:
        model = build_model(self.arm.architecture, self.arm.config, self.seed, self.arm.replicate)
        training = self.training
        batches = self.study.dataset.batches(training.context, training.batch_size, self.seed, training.order)
        plan = self.study.plan
        run = TrainingRun(
            self.folder,
            model,
            batches,
            self.training,
            plan,
            lambda m: mean_nats(m, self.validation, plan),
            observers,
            replicate=self.arm.replicate,
        )
        initial = self._initial_signals(run.model)
        progress = run.go()
        record = self._record(run.model, progress, initial)
        record.write(self.folder / "record.json")
        return record

    def _windows(self, split: Literal["validation", "test"], tokens: int | None) -> ScoringWindows:
        # One evaluation seed for all runs: every arm and seed is scored on the same targets.
        return self.study.dataset.held_out(split, self.training.context, tokens)

    def _initial_signals(self, model: LanguageModel) -> SignalProfile:
        """Of the untrained weights: measured before a checkpoint is loaded, as the same seed gives the same weights."""
        return measure_signals(model, self._signal_inputs(), self.study.plan)

    def _signal_inputs(self) -> np.ndarray:
        """The fullest of the first validation windows, cut to a common length."""
        lengths = self.validation.lengths
        rows = np.sort(np.argsort(-lengths, kind="stable")[: self.study.config.evaluation.signal_windows])
        return self.validation.inputs[rows][:, : int(lengths[rows].min())]

    def _record(self, model: LanguageModel, progress: TrainingProgress, initial: SignalProfile) -> RunRecord:
        study, plan, split = self.study, self.study.plan, self.study.config.evaluation.split
        finished = progress.status == "finished"
        held_out = self._windows(split, study.config.evaluation.test_tokens) if finished else None
        scores = None if held_out is None else measure_likelihood(model, held_out, plan, study.dataset.invertible)
        rows = read_metrics(self.folder)
        return RunRecord(
            label=self.arm.label,
            architecture=self.arm.architecture.name,
            seed=self.seed,
            replicate=self.arm.replicate,
            spec=study.spec(self.arm, self.seed).model_dump(mode="json"),
            spec_digest=study.digest(self.arm, self.seed),
            plan=plan.model_dump(mode="json"),
            status="finished" if finished else "diverged",
            steps=progress.step,
            tokens=progress.tokens,
            parameters=count_parameters(model),
            flops_per_token=count_flops(model, self.training.context),
            state_bytes=count_state_bytes(model, self.training.context, plan.bytes_per_element),
            dimensions=self.arm.config.model_dump(mode="json"),
            test=scores if split == "test" else None,
            validation=scores if split == "validation" else None,
            training_curve=[_point(row, "nats_per_token") for row in rows],
            validation_curve=[
                _point(row, "validation_nats_per_token") for row in rows if row["validation_nats_per_token"] is not None
            ],
            signals_initial=initial,
            signals_trained=measure_signals(model, self._signal_inputs(), plan) if finished else None,
            output_health=None if held_out is None else measure_output_health(model, held_out, plan),
            train_tokens_per_second=tokens_per_second(rows, self.training.batch_tokens),
            peak_memory_bytes=progress.peak_memory_bytes,
            data_chain=progress.chain,
            forms=progress.forms,
            interruptions=progress.interruptions,
            chain_broken=progress.chain_broken,
            corpus_digest=study.dataset.digest,
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
