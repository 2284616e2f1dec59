"""The configuration of a run's data: a corpus, its tokenizer and how much of it is read, or a task."""

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from assay.config import Config


class DataConfig(Config):
    """A corpus and its tokenizer, or a task."""

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
    """A task that generates sequences, instead of a text: its name and axes of difficulty (`copying:length=24`)."""

    @model_validator(mode="after")
    def _text_or_task(self) -> Self:
        asked = {name: value for name, value in self.departures().items() if name != "task"}
        if self.task is not None and asked:
            name, value = next(iter(asked.items()))
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} {value}: is about a text, and --task {self.task} makes its own sequences")
        return self

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
