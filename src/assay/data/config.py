"""The configuration of a run's data: a corpus, its tokenizer and how much of it is read, or a task."""

import os
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from assay.config import Config

ABOUT_TASKS = ("task", "mix", "task_weight")


class DataConfig(Config):
    """A corpus and its tokenizer, or a task; one in words uses the tokenizer too."""

    corpus: str = "stdlib"
    """A registered name, followed by `:ARGUMENT` where the corpus takes one (`text:PATH`)."""
    tokenizer: str = "bytes"
    """`bytes`, `bpe:N`, `gpt2`, `gpt2:DIR` or the path of a tokenizer.json."""
    text_field: str = "text"
    """The field of a JSON or parquet row that holds the text."""
    split_by: Literal["hash", "position"] = "hash"
    """How documents without an official split are split: by hash, or by position, with the end held out."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Documents are read whole and in order until the next one would exceed this many UTF-8 bytes."""

    task: str | None = None
    """A task that generates sequences, instead of a text: its name and axes of difficulty (`copying:length=24`).

    One in words goes through the tokenizer, and may take its filler from the corpus or be mixed with it.
    """
    mix: float = Field(default=1.0, gt=0, le=1)
    """The share of the rows of a batch that are the task's; the others are windows of the corpus."""
    task_weight: float | None = Field(default=None, gt=0, lt=1)
    """What the mean over the task's targets weighs in the loss of a mixture, the mean over those of the corpus weighing
    the rest; None: every target counts alike."""

    @model_validator(mode="after")
    def _mixed_with_something(self) -> Self:
        if self.mix < 1 and self.task is None:
            raise ValueError(f"data.mix {self.mix}: there is nothing to mix the text with; --task needle would do")
        if self.task_weight is not None and self.mix == 1:
            raise ValueError(f"data.task_weight {self.task_weight}: nothing is mixed; data.mix=0.5 beside it would do")
        return self

    def text_options(self) -> dict[str, Any]:
        """What is about a text, and was asked for otherwise than by default."""
        return {name: value for name, value in self.departures().items() if name not in ABOUT_TASKS}

    @property
    def name(self) -> str:
        """The name of the task, or else of the corpus."""
        return self.corpus if self.task is None else self.task

    def absolute(self) -> Self:
        """A copy with absolute paths of the text and the tokenizer, which mean the same in every working folder."""
        source, colon, path = self.corpus.partition(":")
        corpus = f"text:{_absolute(path)}" if source == "text" and colon else self.corpus
        kind, colon, folder = self.tokenizer.partition(":")
        tokenizer = self.tokenizer
        if kind == "gpt2" and colon:
            tokenizer = f"gpt2:{_absolute(folder)}"
        elif os.path.exists(_absolute(tokenizer)):
            tokenizer = _absolute(tokenizer)
        return self.model_copy(update={"corpus": corpus, "tokenizer": tokenizer})


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
