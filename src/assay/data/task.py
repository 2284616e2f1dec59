"""The interface of a task: a named generator of sequences with targets and a known chance level, found by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from assay.config import Config, digest_of, parse_settings
from assay.data.batches import Batch, Batches, Order
from assay.data.corpus import SPLITS, Split
from assay.data.questions import Questions, refuse_questions
from assay.data.scoring import ScoringWindows
from assay.data.text.tokenizer import Tokenizer
from assay.data.worded.task import TextTask
from assay.errors import RequestError
from assay.registry import Registry
from assay.seeding import derive
from assay.targets import IGNORED

HELD_OUT_BLOCK = 64
"""Sequences of a held-out set that are generated at once."""
INPUTS_PER_TARGET = 64
HELD_OUT_SEED = 0
"""The seed of validation and test, so that every run, whatever its own seed, is scored on the same sequences."""


@dataclass(frozen=True)
class Task:
    """A named generator of sequences. Its functions take as their first argument an instance of the class `axes`."""

    name: str
    summary: str
    citation: str
    axes: type[Config]
    """The configuration of its difficulty; each axis has a default."""
    vocab_size: Callable[[Any], int]
    shortest: Callable[[Any], int]
    """The smallest context, in tokens, that holds a sequence."""
    generate: Callable[[Any, int, int, np.random.Generator], Batch]
    """(axes, rows, context, generator) -> a batch [rows, context], with targets IGNORED where there is none."""
    chance_nats: Callable[[Any], float]
    """The mean nats per target of a predictor that knows the task but not the sequence: the chance level."""
    questions: Callable[[Any, Batch], Questions] | None = None
    """(axes, batch) -> what the task knows of each target: floors without memory, distances, difficulties."""
    twin: Callable[[Any, Batch, np.random.Generator], Batch] | None = None
    """(axes, batch, generator) -> sequences that ask the same at the same places, and whose answers are all others."""
    held_out_axes: Callable[[Any], Any] | None = None
    """axes -> those that validation and test are drawn with; None where it is those of training."""
    capacity: str | None = None
    """The axis that says how many things are to be remembered, of which some are asked; None where there is none."""
    version: int = 1
    """To be increased when `generate` changes what it returns."""


TASKS: Registry[Task | TextTask] = Registry("task", "assay.data.tasks")


def find_task(text: str) -> tuple[Task | TextTask, Any]:
    """The task that `NAME` or `NAME:axis=value,...` names, and its axes; else a RequestError."""
    name, _, rest = text.partition(":")
    settings = list(parse_settings(f"--task {text}", rest, "length=24"))
    for key, _ in settings:
        if [other for other, _ in settings].count(key) > 1:
            raise RequestError(f"--task {text}: {key} is given twice")
    try:
        task = TASKS.get(name.strip())
        return task, task.axes.parse(dict(settings))
    except RequestError as error:
        raise RequestError(f"--task {text}: {error}") from None


def in_words(text: str) -> bool:
    """Whether `NAME` or `NAME:axis=value,...` names a task in words; False where it is not known here."""
    name = text.partition(":")[0].strip()
    return name in TASKS.names() and isinstance(TASKS.get(name), TextTask)


class TaskBatches:
    """Training batches of a task; the batch of a step is generated from the seed, the step and the run's length."""

    def __init__(
        self, dataset: "TaskDataset", context: int, batch_size: int, seed: int, steps: int | None = None
    ) -> None:
        """`steps`: of the whole training, by which a curriculum goes; None is its end, at full difficulty."""
        self.dataset, self.context, self.batch_size, self.seed, self.steps = dataset, context, batch_size, seed, steps

    def batch(self, step: int) -> Batch:
        """The batch of `step`, counted from 0."""
        done = None if self.steps is None else step / self.steps
        return self.dataset.generated(self.batch_size, self.context, self.seed, "train", step, done)


@dataclass(frozen=True)
class TaskDataset:
    """The data of a run from a task; training, validation and test are drawn from different seeds."""

    name: str
    """The task as the user wrote it, `NAME` or `NAME:axis=value,...`."""
    task: Task
    axes: Any

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the task's name, version and axes; not of its code, whose origin records name separately."""
        axes = self.axes.model_dump(mode="json")
        return digest_of({"task": self.task.name, "version": self.task.version, "axes": axes})

    @property
    def vocab_size(self) -> int:
        return self.task.vocab_size(self.axes)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None: a task's ids stand for no text."""
        return None

    @property
    def invertible(self) -> bool:
        """False: without text there are no bits per byte."""
        return False

    @property
    def inputs_per_target(self) -> int:
        """The inputs that a held-out set reads at most for each target asked for."""
        return INPUTS_PER_TARGET

    @property
    def answers_are_whole(self) -> bool:
        """Whether all targets of a sequence are the tokens of one answer; else each is an answer of its own."""
        return False

    def generated(
        self, rows: int, context: int, seed: int, split: Split, step: int = 0, done: float | None = None
    ) -> Batch:
        """Sequences of a split; `done` is the share of the training that is over, where that changes anything."""
        return _generated(self.task, self.axes, rows, context, seed, split, step)

    def refuse(self, context: int, order: Order, test_tokens: int | None, batch_size: int | None = None) -> None:
        """Raise a RequestError where a sequence does not fit, or an option has no meaning for a task."""
        if context < (shortest := self.task.shortest(self.axes)):
            raise RequestError(f"--context {context}: {self.name} needs at least {shortest} tokens")
        if order != "shuffled":
            raise RequestError(f"training.order {order}: sequences of {self.name} have no order; shuffled would do")
        if test_tokens is None:
            raise RequestError(f"evaluation.test_tokens: {self.name} has no end; a number of targets would do")
        chance = self.task.chance_nats(self.axes)
        if not (math.isfinite(chance) and chance >= 0):
            raise RequestError(f"task {self.task.name}: chance_nats is {chance}; a finite number from 0 on would do")
        for split in SPLITS:
            once, again = (self.generated(HELD_OUT_BLOCK, context, HELD_OUT_SEED, split) for _ in range(2))
            if not all(map(np.array_equal, once, again)):
                raise RequestError(
                    f"task {self.task.name}: the same generator gives other sequences; draw from `generator` alone"
                )

    def batches(self, context: int, batch_size: int, seed: int, order: Order, steps: int | None = None) -> Batches:
        """The training batches of a run of `steps`; `order` has no meaning for a task."""
        return TaskBatches(self, context, batch_size, seed, steps)

    def held_out(self, split: Split, context: int, max_tokens: int | None) -> ScoringWindows:
        """As many sequences as hold `max_tokens` targets, at least one; None is a ValueError, as a task has no end.

        They are generated block by block, so that the number of targets may differ from sequence to sequence. Where few
        targets stand in long sequences, there are fewer: at most `inputs_per_target` inputs are read for each asked.
        """
        if max_tokens is None:
            raise ValueError(f"{self.name} has no end")
        blocks: list[Batch] = []
        left, rows = max_tokens, 0
        most = max(1, self.inputs_per_target * max_tokens // context)
        while (left > 0 and rows < most) or not blocks:
            block = self.generated(HELD_OUT_BLOCK, context, HELD_OUT_SEED, split, len(blocks))
            targets_of = (block.targets != IGNORED).sum(axis=1)
            fitting = int(np.searchsorted(np.cumsum(targets_of), left, side="right"))
            kept = min(fitting if blocks else max(1, fitting), most - rows)
            blocks.append(Batch(block.inputs[:kept], block.targets[:kept]))
            rows, left = rows + kept, left - int(targets_of.sum())
        return as_windows(blocks)

    def sequences(self, split: Split, context: int, rows: int) -> ScoringWindows:
        """The first `rows` held-out sequences of a split."""
        blocks = range(-(-rows // HELD_OUT_BLOCK))
        made = [self.generated(HELD_OUT_BLOCK, context, HELD_OUT_SEED, split, at) for at in blocks]
        return as_windows([Batch(*(np.concatenate(parts)[:rows] for parts in zip(*made, strict=True)))])

    def trained_on(self, context: int, batch_size: int, seed: int, targets: int) -> ScoringWindows:
        """The first sequences that a run with `seed` is trained on, whole batches that hold at least `targets`.

        Of a curriculum those that it would begin with at full difficulty.
        """
        batches = TaskBatches(self, context, batch_size, seed)
        blocks = [batches.batch(0)]
        while sum(block.scored for block in blocks) < targets:
            blocks.append(batches.batch(len(blocks)))
        return as_windows(blocks)

    def as_tested(self) -> Self:
        """The same data with the axes of validation and test for training too."""
        if self.task.held_out_axes is None:
            return self
        return replace(self, axes=self.task.held_out_axes(self.axes))

    def questions(self, windows: ScoringWindows) -> Questions | None:
        """What the task knows of the targets of its own sequences; None where it does not say."""
        if self.task.questions is None:
            return None
        made = self.task.questions(self.axes, Batch(windows.inputs, windows.targets))
        refuse_questions(f"task {self.task.name}", made, windows.targets)
        return made

    def twins(self, windows: ScoringWindows) -> ScoringWindows | None:
        """Sequences that ask the same as its own `windows` and have other answers; None where the task makes none."""
        if self.task.twin is None:
            return None
        generator = np.random.Generator(np.random.PCG64(derive(HELD_OUT_SEED, f"task {self.task.name} twin")))
        made = self.task.twin(self.axes, Batch(windows.inputs, windows.targets), generator)
        if any(np.shape(part) != windows.inputs.shape for part in made):
            raise RequestError(f"task {self.task.name}: its twins have another shape; {windows.inputs.shape} would do")
        asked = windows.targets != IGNORED
        if not np.array_equal(asked, made.targets != IGNORED) or (made.targets == windows.targets)[asked].any():
            raise RequestError(f"task {self.task.name}: a twin gives an answer of its original, or asks elsewhere")
        return as_windows([made])

    def description(self) -> list[str]:
        """None: the name of the task says it."""
        return []

    def summary(self) -> dict[str, Any]:
        """What a report says of the task."""
        return {
            "name": self.name,
            "digest": self.digest,
            "task": self.task.name,
            "axes": self.axes.model_dump(mode="json"),
            "vocab_size": self.vocab_size,
            "chance_nats_per_target": self.task.chance_nats(self.axes),
            "invertible": False,
        }


def as_windows(blocks: list[Batch]) -> ScoringWindows:
    """Sequences as windows to score, each a document of its own without bytes."""
    inputs, targets = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    nothing, numbers = np.zeros(len(inputs), dtype=np.int64), np.arange(len(inputs))
    return ScoringWindows(inputs, targets, document=numbers, source=numbers, offset=nothing, bytes=nothing)


def _generated(task: Task, axes: Any, rows: int, context: int, seed: int, split: Split, step: int = 0) -> Batch:
    """Generate sequences of a split; what breaks the contract is a RequestError that names the task."""
    generator = np.random.Generator(np.random.PCG64(derive(seed, f"task {task.name} {split}", step)))
    if split != "train" and task.held_out_axes is not None:
        axes = task.held_out_axes(axes)
    made = task.generate(axes, rows, context, generator)
    if not isinstance(made, tuple) or len(made) != 2:
        raise RequestError(f"task {task.name}: gives a {type(made).__name__}; Batch(inputs, targets) would do")
    inputs, targets = map(np.asarray, made)
    for what, ids in (("inputs", inputs), ("targets", targets)):
        if ids.dtype.kind not in "iu":
            raise RequestError(f"task {task.name}: {what} are {ids.dtype}; whole numbers would do")
        if ids.shape != (rows, context):
            shape = list(ids.shape)
            raise RequestError(f"task {task.name}: gives {what} {shape}; {[rows, context]} was asked for")
    asked = targets != IGNORED
    if not asked.any(axis=1).all():
        raise RequestError(f"task {task.name}: a sequence asks nothing; a target other than {IGNORED} in each would do")
    for what, ids in (("inputs", inputs), ("targets", targets[asked])):
        if ids.min() < 0 or ids.max() >= task.vocab_size(axes):
            raise RequestError(
                f"task {task.name}: {what} from {ids.min()} to {ids.max()}; 0 to {task.vocab_size(axes) - 1} would do"
            )
    return Batch(inputs.astype(np.int64), targets.astype(np.int64))
