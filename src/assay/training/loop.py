"""The training loop of every run: batches in, checkpoints and metrics out, exact resume, and a stop at divergence."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from assay.data.batches import Batch, Batches, Chain
from assay.data.mixing import portions_of
from assay.errors import RequestError
from assay.model.fingerprint import fingerprint
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import write_whole
from assay.training import checkpoint
from assay.training.checkpoint import TrainingProgress
from assay.training.compiled import UNCOMPILED, compile_objective, forget_compiled_code
from assay.training.config import TrainingConfig
from assay.training.course import add_row, course_file, observed_by, read_course
from assay.training.environment import environment
from assay.training.memory import PeakMemory
from assay.training.native import IN_PYTHON, prepare_ops
from assay.training.objective import Objective
from assay.training.optim import build_optimizer, learning_rate
from assay.training.step import MicroBatch, micro_batches, shares_of, take_step

DIVERGENCE_WINDOW = 20
DIVERGENCE_NATS = 1.0
"""A run has diverged when the mean of its last 20 losses is a nat above its first loss, or a loss is not finite."""


@dataclass(frozen=True)
class StepEvent:
    """What listeners are told after every step; `validation_nats_per_token` only at validation's interval."""

    step: int
    steps: int
    tokens: int
    nats_per_token: float
    learning_rate: float
    gradient_norm: float
    seconds: float
    chain: str
    validation_nats_per_token: float | None
    auxiliary: dict[str, float]
    """The auxiliary losses of layers, weighted, as they were added to the cross-entropy."""
    portions: dict[str, float] = field(default_factory=dict)
    """Source of a mixed batch, `text` or `task` -> nats per target of its rows; empty where there is one source."""


Observer = Callable[[StepEvent], None]


class ModelObserver(Protocol):
    """Is shown the model itself every `interval` steps and after the last one.

    What it returns becomes a row of course/NAME.jsonl. When a run resumes, rows after the last checkpoint are removed,
    so that the file is that of an uninterrupted run. An observer must not change the model; it is called in evaluation
    mode, without gradients.
    """

    name: str
    interval: int

    def observe(self, model: LanguageModel, step: int) -> Mapping[str, Any]:
        """Measurements of the model after `step` steps, as values that JSON has."""


class TrainingRun:
    """The training of one model under one protocol in one folder. `go` trains what is left and returns the progress.

    `validate` gives nats per token on held-out text; `listeners` are told of every step; `observers` see the model at
    their intervals. Batch t depends on the batches' seed and t alone, so that neither validation nor an interruption
    changes the data; another `replicate` changes the draws of stochastic layers, not the data. `observed_by` says
    by the name of a model observer whose code it is and in which state; a run does not go on with another.
    """

    def __init__(
        self,
        folder: Path,
        model: LanguageModel,
        batches: Batches,
        config: TrainingConfig,
        plan: ExecutionPlan,
        validate: Callable[[LanguageModel], float],
        observers: Sequence[Observer] = (),
        replicate: int = 0,
        model_observers: Sequence[ModelObserver] = (),
        observed_by: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.model = plan.apply(model)
        self.batches = batches
        self.portions = portions_of(batches)
        self.config = config
        self.plan = plan
        self.validate = validate
        self.observers = observers
        self.replicate = replicate
        self.model_observers = model_observers
        self.codes = observed_by or {}
        self.forms = plan.forms_of(self.model)
        """The form of each op of the model, by its name; fixed for the run."""
        self.objective = Objective(self.model, plan)
        self.optimizer = build_optimizer(self.model, config, plan.native)
        self.compiled = UNCOMPILED
        """How the steps run, as `compile_objective` says."""
        self.ops = IN_PYTHON
        """In which language, as `prepare_ops` says."""

    def go(self) -> TrainingProgress:
        """Train to the end or to divergence, starting from the last checkpoint if there is one."""
        progress = self._start()
        chain = Chain(progress.chain)
        memory = PeakMemory(self.plan.device)
        measured = progress.step == 0 or progress.peak_memory_bytes is not None
        interval = self.config.interval(self.config.checkpoint_interval)
        kept = self.config.kept_steps
        branching = {self.config.branch(tokens).stable_steps for tokens in self.config.branches}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
            while progress.status == "running":
                progress, event = self._advance(progress, chain)
                progress = self._with_best(progress, event.validation_nats_per_token)
                metrics.write(json.dumps(event.__dict__) + "\n")
                metrics.flush()
                self._show_model(progress)
                if progress.step in kept:
                    checkpoint.keep(self.folder, self.model, progress.step)
                if progress.step in branching:
                    place = checkpoint.branch_folder(self.folder, progress.step)
                    place.parent.mkdir(exist_ok=True)
                    checkpoint.save(place, self.model, self.optimizer, progress)
                if progress.status != "running" or progress.step % interval == 0:
                    # Of all parts of a resumed run or of none: the peak may have been in one that was not measured.
                    now = memory.bytes() if measured else None
                    peak = None if now is None else max(now, progress.peak_memory_bytes or 0)
                    progress = progress.model_copy(update={"peak_memory_bytes": peak})
                    if progress.status == "finished" and self.config.weights == "best":
                        checkpoint.load_best(self.folder, self.model, _best_step(progress))
                    checkpoint.save(self.folder / "checkpoint", self.model, self.optimizer, progress)
                    checkpoint.drop_other_best(self.folder, progress.best_step)
                for observer in self.observers:
                    observer(event)
        return progress

    def _with_best(self, progress: TrainingProgress, validation: float | None) -> TrainingProgress:
        """The progress with this validation, whose weights are stored where they are the best and will be measured."""
        if validation is None or not validation < (math.inf if progress.best_nats is None else progress.best_nats):
            return progress
        if self.config.weights == "best":
            checkpoint.keep(self.folder, self.model, progress.step, "best")
        return progress.model_copy(update={"best_nats": validation, "best_step": progress.step})

    def _show_model(self, progress: TrainingProgress) -> None:
        """Call the observers whose interval it is; a RequestError where one has changed the model."""
        for observer in self.model_observers:
            if progress.step % observer.interval and progress.status == "running":
                continue
            self.model.eval()
            before = fingerprint(self.model)
            with torch.no_grad():
                row = {**observer.observe(self.model, progress.step), "step": progress.step}
            if fingerprint(self.model)._replace(modes=before.modes) != before:
                raise RequestError(f"{observer.name}: its observer changed the model that is trained; it may only look")
            add_row(course_file(self.folder, observer.name), row, self.codes.get(observer.name))

    def _start(self) -> TrainingProgress:
        folder = self.folder / "checkpoint"
        begun = checkpoint.recover(folder)
        left = not (begun and TrainingProgress.read(folder / "progress.json").status != "running")
        if left:
            self.ops = prepare_ops(self.model, self.plan, self.config.optimizer)
        if self.plan.compile and left:
            forget_compiled_code()
            parts = self._micro_batches(self.batches.batch(0), 0)
            shapes = {part.inputs.shape: part for part in reversed(parts)}
            self.compiled = compile_objective(self.objective, *reversed(shapes.values()))
        here = environment(self.plan, self.compiled, self.ops)
        if not begun:
            self._drop_rows_after(0)
            return TrainingProgress(step=0, tokens=0, chain=Chain().head, environment=here)
        progress = checkpoint.load(folder, self.model, self.optimizer)
        if progress.status != "running":
            return progress
        for observer in self.model_observers:
            if progress.step >= observer.interval:
                self._refuse_other_course(observer)
        self._drop_rows_after(progress.step)
        changed = [f"{k}: {v} -> {here.get(k)}" for k, v in progress.environment.items() if here.get(k) != v]
        broken = progress.chain_broken or ("; ".join(changed) if changed else None)
        begins = progress.step == progress.branched_at  # a branch that begins was not interrupted
        more = {"interruptions": progress.interruptions + (not begins), "chain_broken": broken}
        return progress.model_copy(update=more)

    def _refuse_other_course(self, observer: ModelObserver) -> None:
        """Raise a RequestError where rows that the run has by now are missing, or other code observed them."""
        path = course_file(self.folder, observer.name)
        if not path.exists() or not read_course(path):
            raise RequestError(
                f"--out {self.folder}: {observer.name} needs the whole course of training, and the run began "
                "without it; a new folder would do"
            )
        then, now = observed_by(path), self.codes.get(observer.name)
        if then != now:
            raise RequestError(
                f"--out {self.folder}: {observer.name} has observed it as {then or 'unknown code'} and is {now} now, "
                "and a course is not of two; the code as it was, or a new folder, would do"
            )

    def _drop_rows_after(self, step: int) -> None:
        """Remove rows after `step` from metrics.jsonl and the observers' files.

        A killed process may leave half a line, but only after those of the checkpoint.
        """
        for path in (self.folder / "metrics.jsonl", *self.folder.glob("course/*.jsonl")):
            write_whole(path, rows_up_to(path, step).encode())

    def _advance(self, progress: TrainingProgress, chain: Chain) -> tuple[TrainingProgress, StepEvent]:
        """One optimizer step, and validation if it is due."""
        config, step = self.config, progress.step
        started = time.perf_counter()
        batch = self.batches.batch(step)
        chain.update(batch)
        parts = self._micro_batches(batch, step)
        shares = shares_of(batch, config, self.portions)
        taken = take_step(self.objective, self.optimizer, parts, batch.scored, config, step, shares)
        seconds = time.perf_counter() - started
        progress = self._judge(progress, taken.losses.nats, taken.finite).model_copy(
            update={
                "step": step + 1,
                "tokens": (step + 1) * config.batch_tokens,
                "chain": chain.head,
                "forms": self.forms,
            }
        )
        due = progress.status == "finished" or (step + 1) % config.interval(config.validation_interval) == 0
        validation = self.validate(self.model) if taken.finite and due else None
        learned = validation is not None and config.stop_at_nats is not None and validation <= config.stop_at_nats
        if progress.status == "running" and learned:
            progress = progress.model_copy(update={"status": "finished"})
        return progress, StepEvent(
            step=step + 1,
            steps=config.steps,
            tokens=progress.tokens,
            nats_per_token=taken.losses.nats,
            learning_rate=learning_rate(config, step),
            gradient_norm=taken.gradient_norm,
            seconds=seconds,
            chain=chain.head,
            validation_nats_per_token=validation,
            auxiliary=taken.losses.auxiliary,
            portions=taken.losses.portions,
        )

    def _micro_batches(self, batch: Batch, step: int) -> list[MicroBatch]:
        device, seed = self.plan.device, self.batches.seed
        return micro_batches(batch, self.config, device, seed, step, self.replicate, self.portions)

    def _judge(self, progress: TrainingProgress, nats: float, finite: bool) -> TrainingProgress:
        """The progress with this step's loss added, and marked as diverged if it is (see DIVERGENCE_NATS)."""
        first = nats if progress.first_nats is None else progress.first_nats
        recent = [*progress.recent_nats, nats][-DIVERGENCE_WINDOW:]
        full = len(recent) == DIVERGENCE_WINDOW
        diverged = not finite or (full and sum(recent) / len(recent) > first + DIVERGENCE_NATS)
        status = "diverged" if diverged else "finished" if progress.step + 1 == self.config.steps else "running"
        return progress.model_copy(update={"first_nats": first, "recent_nats": recent, "status": status})


def rows_up_to(path: Path, step: int) -> str:
    """The whole lines of a file of rows, up to that of `step`."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "".join(f"{line}\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step)


def _best_step(progress: TrainingProgress) -> int:
    """After how many steps validation was lowest; a finished run was validated at its end at the latest."""
    if progress.best_step is None:
        raise RequestError(
            "training.weights best: no validation gave a finite number, so that there are none; last would do"
        )
    return progress.best_step
