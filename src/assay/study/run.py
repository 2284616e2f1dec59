"""One run of a study in a directory of its own: trained, recorded and measured; locked against a second process."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assay.errors import RequestError
from assay.evaluation.measurement import Measurement
from assay.evaluation.results import code_in_words
from assay.evaluation.scoring import mean_nats
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import build_model
from assay.model.plan import ExecutionPlan
from assay.plugins.blame import place_of
from assay.records import CurvePoint, MeasuredRun, RunRecord
from assay.study.asked import StudyConfig
from assay.study.folder import (
    PATIENCE_SECONDS,
    ask_anew,
    discard,
    lock,
    open_folder,
    refuse_other_run,
    stored_config,
)
from assay.study.measure.given import given_run
from assay.study.measure.results import measure_folder, missing
from assay.study.resolve import ResolvedArm, Study, resolve
from assay.training.checkpoint import TrainingProgress, recover
from assay.training.compiled import UNCOMPILED, shortfall
from assay.training.environment import environment
from assay.training.loop import ModelObserver, Observer, TrainingRun
from assay.training.native import IN_PYTHON, build_ops, native_shortfall
from assay.training.optim import optimizer_groups
from assay.training.version import assay_version


def train(
    config: StudyConfig,
    folder: Path,
    tell: Callable[[str], None],
    observers: Sequence[Observer],
    found: Callable[[Study, bool], None] = lambda *_: None,
) -> MeasuredRun:
    """Train the one arm and the one seed of `config` in `folder` and measure it, or finish what was begun there.

    `found` is told the resolved study, and whether nothing is left to do, before anything is trained.
    """
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
    found(study, stored is not None and finished_run(study, arm, seed, folder) is not None)
    if not (folder / "record.json").exists():
        for line in study.dataset.description():
            tell(line)
    made = open_folder(folder, resolved)
    build_ops(study.plan, study.models_on_meta(), study.optimizers(), tell)
    try:
        run = carry_out(study, arm, seed, folder, observers)
    except OSError:
        if not (folder / "checkpoint").exists():
            discard(made)
        raise
    for short in shortfalls(run, study.plan):
        tell(short)
    return run


def shortfalls(run: MeasuredRun, plan: ExecutionPlan) -> list[str]:
    """The lines for a run that was not compiled as one graph, or whose ops did not run in C++, as the plan has it."""
    label, here = run.record.label, run.record.environment
    lines = [
        shortfall(label, here.get("compiled", UNCOMPILED)) if plan.compile else None,
        native_shortfall(label, here.get("ops", IN_PYTHON)) if plan.native else None,
    ]
    return [line for line in lines if line is not None]


def carry_out(
    study: Study, arm: ResolvedArm, seed: int, folder: Path, observers: Sequence[Observer] = ()
) -> MeasuredRun:
    """Train one arm with one seed in `folder` and measure it, or finish what was begun there.

    A finished run is read, not repeated, and measured where something is missing; a half-done one is not finished by
    another assay.
    """
    asked = study.run_config(arm, seed)
    open_folder(folder, asked)
    with lock(folder, PATIENCE_SECONDS):
        ask_anew(folder, asked)
        if trained_record(study, arm, seed, folder) is None:
            _refuse_other_code(folder)
            if study.dataset.tokenizer is not None:
                study.dataset.tokenizer.save(folder / "tokenizer.json")
            _Run(study, arm, seed, folder).go(observers)
        run, _ = measure_folder(folder, study.of_runs(), lambda _: given_run(study, arm, seed, folder))
        return run


def finished_run(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> MeasuredRun | None:
    """The run with all that is measured of it, None where something is left to do; another run is a RequestError."""
    if trained_record(study, arm, seed, folder) is None:
        return None
    run = MeasuredRun.read(folder)
    return None if missing(study.of_runs(), run, folder) else run


def trained_record(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> RunRecord | None:
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

    def go(self, observers: Sequence[Observer]) -> None:
        """Train to the end and write the record."""
        model = build_model(self.arm.architecture, self.arm.config, self.seed, self.arm.replicate)
        training, plan, dataset = self.training, self.study.plan, self.study.dataset
        batches = dataset.batches(training.context, training.batch_size, self.seed, training.order, training.steps)
        validation = dataset.held_out("validation", training.context, training.validation_tokens)
        followed = [item for item in self.study.of_runs() if "course" in item.needs]
        run = TrainingRun(
            self.folder,
            model,
            batches,
            self.training,
            plan,
            lambda m: mean_nats(m, validation, plan),
            observers,
            replicate=self.arm.replicate,
            model_observers=course_observers(followed, training.steps),
            observed_by={item.name: code_in_words(item) for item in followed},
        )
        progress = run.go()
        self._record(run, progress).write(self.folder / "record.json")

    def _record(self, trained: TrainingRun, progress: TrainingProgress) -> RunRecord:
        study, plan, model = self.study, self.study.plan, trained.model
        rows = read_metrics(self.folder)
        best = self.training.weights == "best" and progress.status == "finished"
        return RunRecord(
            label=self.arm.label,
            architecture=self.arm.architecture.name,
            seed=self.seed,
            replicate=self.arm.replicate,
            spec=study.spec(self.arm, self.seed).model_dump(mode="json"),
            spec_digest=study.digest(self.arm, self.seed),
            plan=plan.model_dump(mode="json"),
            status="finished" if progress.status == "finished" else "diverged",
            steps=progress.step,
            tokens=progress.tokens,
            parameters=count_parameters(model),
            optimizer_groups=optimizer_groups(model, self.training),
            flops_per_token=count_flops(model, self.training.context),
            state_bytes=count_state_bytes(model, self.training.context, plan.bytes_per_element),
            dimensions=self.arm.config.model_dump(mode="json"),
            training_curve=[_point(row, "nats_per_token") for row in rows],
            validation_curve=[
                _point(row, "validation_nats_per_token") for row in rows if row["validation_nats_per_token"] is not None
            ],
            weights_step=progress.best_step if best else progress.step,
            portion_curves=_portion_curves(rows),
            train_tokens_per_second=tokens_per_second(rows, self.training.batch_tokens),
            peak_memory_bytes=progress.peak_memory_bytes,
            data_chain=progress.chain,
            forms=progress.forms,
            interruptions=progress.interruptions,
            branched_at=progress.branched_at,
            chain_broken=progress.chain_broken,
            corpus_digest=study.dataset.digest,
            environment=environment(
                plan,
                progress.environment.get("compiled", UNCOMPILED),
                progress.environment.get("ops", IN_PYTHON),
            ),
        )


def course_observers(measurements: Sequence[Measurement[Any]], steps: int) -> list[ModelObserver]:
    """The observers of measurements that follow the training; one that could not be found again is a RequestError."""
    observers = [item.observer(steps) for item in measurements]
    for item, observer in zip(measurements, observers, strict=True):
        if observer.name != item.name:
            raise RequestError(
                f"{place_of(type(observer), type(item))}: the observer of the measurement {item.name} is called "
                f"{observer.name!r}; {item.name!r} would do"
            )
        if type(observer.interval) is not int or observer.interval < 1:
            raise RequestError(
                f"{place_of(type(observer), type(item))}: the observer of the measurement {item.name} has the interval "
                f"{observer.interval!r}; a whole number of steps, 1 or more, would do"
            )
    return observers


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, one a step."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def tokens_per_second(rows: list[dict[str, Any]], batch_tokens: int) -> float:
    """The median over steps after the first, which warms caches up."""
    seconds = [row["seconds"] for row in rows[1:] or rows]
    return float(batch_tokens / statistics.median(seconds))


def _portion_curves(rows: list[dict[str, Any]]) -> dict[str, list[CurvePoint]]:
    """The curves of the sources of mixed batches, by name."""
    names = dict.fromkeys(name for row in rows for name in row.get("portions", {}))
    return {name: [_point({**row, **row["portions"]}, name) for row in rows] for name in names}


def _point(row: dict[str, Any], key: str) -> CurvePoint:
    return CurvePoint(step=int(row["step"]), tokens=int(row["tokens"]), nats_per_token=row[key])
