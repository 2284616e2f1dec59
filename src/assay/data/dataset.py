"""The data of a run, from a text or a task: batches to train on, held-out windows to score, a digest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from assay.data.batches import Batches, Order, PackedWindows
from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, Split
from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.task import Task, TaskDataset, find_task
from assay.data.text.prepare import TokenizedCorpus, prepare
from assay.data.text.tokenizer import Tokenizer
from assay.data.worded.dataset import text_task
from assay.errors import RequestError


class Dataset(Protocol):
    """Everything that a run needs of its data; implemented by TextDataset and TaskDataset."""

    @property
    def digest(self) -> str:
        """SHA-256 that is equal exactly where all batches are."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What turns ids into text; None for a task, whose ids stand for no text."""

    @property
    def invertible(self) -> bool:
        """Whether targets stand for a known number of bytes of text, so that bits per byte can be given."""

    def refuse(self, context: int, order: Order, test_tokens: int | None, batch_size: int | None = None) -> None:
        """Raise a RequestError where there is no window of `context` tokens, or another argument cannot be met."""

    def batches(self, context: int, batch_size: int, seed: int, order: Order, steps: int | None = None) -> Batches:
        """The training batches of a run of `steps`: `batch_size` windows of `context` tokens per step."""

    def held_out(self, split: Split, context: int, max_tokens: int | None) -> ScoringWindows:
        """The windows of `split` that every run is scored on, about `max_tokens` targets; None means all."""

    def description(self) -> list[str]:
        """Lines that tell the user what is trained and scored on, before it begins."""

    def summary(self) -> dict[str, Any]:
        """What a report says of the data."""


@dataclass(frozen=True)
class TextDataset:
    """The data of a run from a tokenised corpus."""

    corpus: TokenizedCorpus

    @property
    def digest(self) -> str:
        return self.corpus.digest

    @property
    def vocab_size(self) -> int:
        return self.corpus.tokenizer.vocab_size

    @property
    def tokenizer(self) -> Tokenizer:
        return self.corpus.tokenizer

    @property
    def invertible(self) -> bool:
        return self.corpus.invertible

    def refuse(self, context: int, order: Order, test_tokens: int | None, batch_size: int | None = None) -> None:
        """Raise a RequestError where a split is too short for one window."""
        for name in SPLITS:
            tokens = len(self.corpus.split(name).ids)
            if tokens <= context:
                raise RequestError(
                    f"--context {context}: the {name} split of --corpus {self.corpus.name} has {tokens} tokens; "
                    f"a longer text or --context {max(2, tokens // 2)} would do"
                )

    def batches(
        self, context: int, batch_size: int, seed: int, order: Order, steps: int | None = None
    ) -> PackedWindows:
        """Packed windows of the training split, the same however many `steps` there are."""
        return PackedWindows(self.corpus.train.ids, context, batch_size, seed, order)

    def held_out(self, split: Split, context: int, max_tokens: int | None) -> ScoringWindows:
        """Windows of whole documents, in an order that is the same for all runs."""
        return scoring_windows(self.corpus.split(split), context, self.tokenizer.token_bytes, 0, max_tokens)

    def description(self) -> list[str]:
        return self.corpus.description()

    def summary(self) -> dict[str, Any]:
        return self.corpus.summary()


def load_dataset(config: DataConfig, tell: Callable[[str], None]) -> TextDataset | TaskDataset:
    """The text or the task that `config` asks for; RequestError where it cannot be had."""
    if config.task is None:
        return TextDataset(prepare(config, tell))
    task, axes = find_task(config.task)
    if not isinstance(task, Task):
        return text_task(config, task, axes, tell)
    for name, value in config.text_options().items():
        option = f"--{name.replace('_', '-')}"
        raise RequestError(f"{option} {value}: is about a text, and --task {config.task} makes its own sequences")
    if config.mix < 1:
        raise RequestError(f"data.mix {config.mix}: the ids of {config.task} stand for no text; --task needle would do")
    return TaskDataset(config.task, task, axes)
