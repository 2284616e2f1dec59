"""The data of a run from a task in words: its examples as ids of the run's tokenizer, alone or mixed with a corpus."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from assay.config import digest_of
from assay.data.batches import Batch, Batches, Ints, Order, PackedWindows
from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, Split
from assay.data.mixing import MixedBatches, Portion
from assay.data.questions import Questions
from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.task import HELD_OUT_BLOCK, HELD_OUT_SEED, Task, TaskBatches, TaskDataset, as_windows
from assay.data.text.prepare import TokenizedCorpus, prepare
from assay.data.text.tokenizer import Tokenizer, build_tokenizer
from assay.data.worded.examples import DEPTHS, Example
from assay.data.worded.task import TextTask
from assay.data.worded.words import Words
from assay.errors import RequestError
from assay.seeding import derive
from assay.targets import IGNORED

FOR_CHANCE = 256
"""Examples over which the mean number of tokens of an answer is taken."""
CHANCE_SEED = 1
INPUTS_PER_TARGET = 16
"""There is one answer a sequence, of several tokens or of one: more of them would cost more than they tell."""


def text_task(config: DataConfig, task: TextTask, axes: Any, tell: Callable[[str], None]) -> "TextTaskDataset":
    """The data that `config` asks for of `task`; a text option that changes nothing is a RequestError."""
    reads = task.reads_corpus(axes)
    if reads or config.mix < 1 or config.tokenizer.startswith("bpe:"):
        corpus = prepare(config, tell)
        return TextTaskDataset.of(config, task, axes, Words(corpus.tokenizer, corpus), reads)
    for name, value in config.text_options().items():
        if name != "tokenizer":
            raise RequestError(
                f"--{name.replace('_', '-')} {value}: {config.task} takes no text with --tokenizer {config.tokenizer}; "
                "--set data.mix=0.5 would train on both"
            )
    return TextTaskDataset.of(config, task, axes, Words(build_tokenizer(config.tokenizer, [])), reads)


@dataclass(frozen=True)
class TextTaskDataset(TaskDataset):
    """Sequences of a task in words: BOS and the pieces are read, the tokens of the answer are the only targets."""

    text_task: TextTask
    words: Words
    config: DataConfig
    _known: dict[bytes, Example] = field(default_factory=dict, compare=False, repr=False)
    """Sequences that were held out, by their ids."""

    @classmethod
    def of(cls, config: DataConfig, task: TextTask, axes: Any, words: Words, reads_corpus: bool) -> "TextTaskDataset":
        """The data of `task` at `axes`, cut by the tokenizer of `words`."""
        assert config.task is not None
        if words.corpus is not None and reads_corpus:
            words.refuse_short_corpus(1)
        return cls(config.task, _as_ids(task, words), axes, task, words, config)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the task's name, version and axes, of its tokenizer, and of the corpus that it reads."""
        corpus = self.words.corpus
        mixture = {} if self.config.mix == 1 else {"mix": self.config.mix, "task_weight": self.config.task_weight}
        return digest_of(
            {
                "task": self.text_task.name,
                "version": self.text_task.version,
                "axes": self.axes.model_dump(mode="json"),
                "tokenizer": self.words.tokenizer.digest,
                "corpus": None if corpus is None else corpus.digest,
                **mixture,
            }
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self.words.tokenizer

    @property
    def inputs_per_target(self) -> int:
        return INPUTS_PER_TARGET

    @property
    def answers_are_whole(self) -> bool:
        return True

    @property
    def mixed_with(self) -> TokenizedCorpus | None:
        """The corpus whose windows are trained on too; None where all rows are the task's."""
        return self.words.corpus if self.config.mix < 1 else None

    def refuse(self, context: int, order: Order, test_tokens: int | None, batch_size: int | None = None) -> None:
        """Raise a RequestError where an example does not fit, or an option has no meaning for a task."""
        if self.text_task.reads_corpus(self.axes):
            self.words.refuse_short_corpus(context)
        super().refuse(context, order, test_tokens)
        for split in SPLITS:
            for example in self.examples(split, context, HELD_OUT_BLOCK):
                _refuse_broken(self.text_task.name, example)
                for answer in example.candidates:
                    self.words.refuse_other_cuts(self.name, example.pieces, answer)
        if self.config.mix < 1:
            assert self.words.corpus is not None
            if len(self.words.corpus.train.ids) <= context:
                raise RequestError(f"--context {context}: the corpus that data.mix asks for is shorter than a window")
            if batch_size is not None:
                self._portions(batch_size)

    def examples(self, split: Split, context: int, rows: int) -> list[Example]:
        """The first `rows` held-out examples of a split, the same for every run."""
        blocks = range(-(-rows // HELD_OUT_BLOCK))
        found = [one for at in blocks for one in self._drawn(HELD_OUT_BLOCK, context, HELD_OUT_SEED, split, at, None)]
        return found[:rows]

    def generated(
        self, rows: int, context: int, seed: int, split: Split, step: int = 0, done: float | None = None
    ) -> Batch:
        """The examples as ids; see TaskDataset. One that does not fit is a RequestError, and never cut."""
        inputs = np.zeros((rows, context), dtype=np.int64)
        targets = np.full((rows, context), IGNORED)
        for row, example in enumerate(self._drawn(rows, context, seed, split, step, done)):
            if (taken := self._write(example, inputs[row], targets[row])) > context:
                raise RequestError(f"--context {context}: a sequence of {self.name} takes {taken} tokens")
            if split != "train":
                self._known[inputs[row].tobytes()] = example
        return Batch(inputs, targets)

    def batches(self, context: int, batch_size: int, seed: int, order: Order, steps: int | None = None) -> Batches:
        """The training batches of a run of `steps`: of the task, or where `data.mix` says so of the corpus too."""
        if self.mixed_with is None:
            return TaskBatches(self, context, batch_size, seed, steps)
        portions = self._portions(batch_size)
        text = PackedWindows(self.mixed_with.train.ids, context, portions[0].rows, seed, order)
        return MixedBatches(text, TaskBatches(self, context, portions[1].rows, seed, steps), portions)

    def text_held_out(self, split: Split, context: int, max_tokens: int | None) -> ScoringWindows:
        """Windows of the corpus that the task is mixed with."""
        corpus = self.mixed_with
        if corpus is None:
            raise ValueError(f"{self.name} is mixed with no text")
        return scoring_windows(corpus.split(split), context, self.words.tokenizer.token_bytes, 0, max_tokens)

    def questions(self, windows: ScoringWindows) -> Questions | None:
        """What is known of the answers of held-out sequences; of others None."""
        examples = [self._known.get(row.tobytes()) for row in windows.inputs]
        if any(example is None for example in examples):
            return None
        return self._questions([example for example in examples if example is not None], windows.targets)

    def twins(self, windows: ScoringWindows) -> ScoringWindows | None:
        """As TaskDataset.twins; a sequence without a twin has no targets. None where the task makes none."""
        if self.text_task.twin is None:
            return None
        generator = np.random.Generator(np.random.PCG64(derive(HELD_OUT_SEED, f"task {self.text_task.name} twin")))
        inputs, targets = np.zeros_like(windows.inputs), np.full_like(windows.targets, IGNORED)
        for row, ids in enumerate(windows.inputs):
            example = self._known.get(ids.tobytes())
            twin = None if example is None else self._twin(example, windows.inputs.shape[1], generator)
            if twin is not None:
                self._write(twin, inputs[row], targets[row])
        return as_windows([Batch(inputs, targets)])

    def description(self) -> list[str]:
        corpus = self.words.corpus
        return [] if corpus is None else corpus.description()

    def summary(self) -> dict[str, Any]:
        tokenizer = self.words.tokenizer
        corpus = self.words.corpus
        text = {} if corpus is None else {"corpus": corpus.name, "splits": corpus.summary()["splits"]}
        return {
            **super().summary(),
            **text,
            "mix": self.config.mix,
            "tokenizer": {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size, "digest": tokenizer.digest},
        }

    def _drawn(self, rows: int, context: int, seed: int, split: Split, step: int, done: float | None) -> list[Example]:
        axes = self.axes if done is None else self.text_task.in_training(self.axes, done)
        generator = np.random.Generator(np.random.PCG64(derive(seed, f"task {self.text_task.name} {split}", step)))
        return self.text_task.examples(axes, self.words, split, rows, context, generator)

    def _write(self, example: Example, inputs: Ints, targets: Ints) -> int:
        """Write an example into a row of inputs and one of targets [C] where it fits; the inputs that it takes."""
        answer = self.words.ids(example.answer)
        ids = np.concatenate([self.words.joined(example.pieces), answer])
        taken = len(ids) - 1
        if taken <= len(inputs):
            inputs[:taken] = ids[:-1]
            targets[taken - len(answer) : taken] = answer
        return taken

    def _twin(self, example: Example, context: int, generator: np.random.Generator) -> Example | None:
        """The first of its twins whose context is as long and that fits; a broken one is a RequestError."""
        assert self.text_task.twin is not None
        long = self.words.tokens(*example.context)
        for twin in self.text_task.twin(self.axes, example, generator):
            if twin.answer == example.answer or twin.pieces[-1] != example.pieces[-1]:
                raise RequestError(f"task {self.text_task.name}: a twin has the same answer, or asks something else")
            whole = 1 + self.words.tokens(*twin.pieces, twin.answer)
            if self.words.tokens(*twin.context) == long and whole - 1 <= context:
                return twin
        return None

    def _portions(self, batch_size: int) -> tuple[Portion, Portion]:
        """Rows of the corpus and of the task; a RequestError where one of them has none."""
        rows = round(self.config.mix * batch_size)
        if not 0 < rows < batch_size:
            raise RequestError(
                f"data.mix {self.config.mix}: a batch of {batch_size} rows has {rows} of the task; a longer "
                "--batch-tokens or a shorter --context would do"
            )
        weight = self.config.task_weight
        rest = None if weight is None else 1 - weight
        return Portion("text", batch_size - rows, rest), Portion("task", rows, weight)

    def _questions(self, examples: Sequence[Example], targets: np.ndarray) -> Questions:
        shape = targets.shape
        columns = np.ones(shape)
        per_row = [(1 / len(one.candidates), 1 / max(1, len(set(one.mentioned)))) for one in examples]
        chances = np.array(per_row)
        first = (targets != IGNORED).argmax(axis=1)
        distance = np.zeros(shape, dtype=np.int64) + (first - self._begins(examples))[:, None]
        return Questions(
            uniform=chances[:, :1] * columns,
            bag=chances[:, 1:] * columns,
            distance=distance,
            difficulty=_levels(examples, shape),
            context=np.array([1 + self.words.tokens(*one.context) for one in examples]),
        )

    def _begins(self, examples: Sequence[Example]) -> np.ndarray:
        """[N] where the first of the pieces that say the answer begins."""
        return np.array([1 + self.words.tokens(*one.pieces[: min(one.facts)]) for one in examples])


def _levels(examples: Sequence[Example], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Name of an axis -> [N, C], its levels numbered from 0 on: thirds from early to late, others by name."""
    found = {}
    for axis in dict.fromkeys(axis for one in examples for axis in one.levels):
        there = {one.levels[axis] for one in examples if axis in one.levels}
        names = list(DEPTHS) if there <= set(DEPTHS) else sorted(there)
        numbers = [names.index(one.levels[axis]) if axis in one.levels else -1 for one in examples]
        found[axis] = np.zeros(shape, dtype=np.int64) + np.array(numbers)[:, None]
    return found


def _as_ids(task: TextTask, words: Words) -> Task:
    """The task as one of ids, for whoever asks for its vocabulary, its chance level and its shortest context."""

    def chance(axes: Any) -> float:
        """The mean over answers of ln(possible answers), over the mean number of their tokens."""
        generator = np.random.Generator(np.random.PCG64(derive(CHANCE_SEED, f"task {task.name} chance")))
        examples = task.examples(axes, words, "validation", FOR_CHANCE, task.longest(axes, words), generator)
        nats = [math.log(one.possible) for one in examples]
        return sum(nats) / sum(words.tokens(one.answer) for one in examples)

    def generate(*_: Any) -> Batch:
        raise TypeError(f"{task.name} is in words; TextTaskDataset.generated makes its sequences")

    return Task(
        name=task.name,
        summary=task.summary,
        citation=task.citation,
        axes=task.axes,
        vocab_size=lambda _: words.tokenizer.vocab_size,
        shortest=lambda axes: task.longest(axes, words),
        generate=generate,
        chance_nats=chance,
        version=task.version,
    )


def _refuse_broken(name: str, example: Example) -> None:
    """Raise a RequestError where an example of the task does not fit its contract."""
    if example.answer not in example.candidates or len(set(example.candidates)) < max(2, len(example.candidates)):
        raise RequestError(f"task {name}: {example.answer!r} is not one of two or more different candidates")
    if not example.facts or max(example.facts) >= len(example.pieces) - 1:
        raise RequestError(
            f"task {name}: facts {list(example.facts)} of {len(example.pieces)} pieces; those before "
            "the question would do"
        )
