"""Models that answer tasks by a rule: with perfect memory, with one that ends, with none."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset
from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.examples import Example
from assay.evaluation.measurement import MEASUREMENTS, Given, Measurement
from assay.evaluation.measuring import measure_model
from evaluation.small import given

Guess = Callable[[np.ndarray], np.ndarray]
"""Inputs [B, T] -> the id that is said at each position, [B, T]."""


class Oracle(nn.Module):
    """Says what `guess` says with a probability of nearly one; it has what scoring needs of a language model."""

    def __init__(self, guess: Guess, vocab_size: int) -> None:
        super().__init__()
        self.guess = guess
        self.head_weight = torch.eye(vocab_size)

    def hidden(self, ids: Tensor) -> tuple[Tensor, list[Any]]:
        said = torch.from_numpy(self.guess(ids.numpy()))
        return 20 * nn.functional.one_hot(said, len(self.head_weight)).float(), []

    def head(self, hidden: Tensor) -> Tensor:
        return hidden @ self.head_weight.T

    def sequence_blocks(self) -> list[SimpleNamespace]:
        return []


def task(text: str) -> TaskDataset:
    """The dataset of a task as a user writes it."""
    made = load_dataset(DataConfig(task=text), print)
    assert isinstance(made, TaskDataset)
    return made


def measured(name: str, guess: Guess, dataset: TaskDataset, context: int, targets: int = 4_000) -> Any:
    """The values of a measurement of the oracle on `dataset`."""
    measurement = MEASUREMENTS.get(name)
    assert isinstance(measurement, Measurement)
    return measure_model([measurement], oracle_given(guess, dataset, context, targets))[0]


def oracle_given(guess: Guess, dataset: TaskDataset, context: int, targets: int) -> Given:
    windows: ScoringWindows = dataset.held_out("test", context, targets)
    model: Any = Oracle(guess, dataset.vocab_size)
    texts = {"held_out": lambda: windows, "training": lambda: dataset.trained_on(context, 8, 0, 64)}
    return given(model, windows, task=dataset, texts=texts)


_BABBLE = Path(tempfile.mkdtemp(prefix="assay-babble-"))
atexit.register(shutil.rmtree, _BABBLE, ignore_errors=True)
for _split in ("train", "valid", "test"):
    (_BABBLE / f"{_split}.txt").write_text(
        " ".join(f"This is sentence {n} of the {_split} text." for n in range(400)), encoding="utf-8"
    )
BABBLE = f"text:{_BABBLE}"
"""A corpus of little text, each split of its own words."""

ASKED = 160
"""Examples that oracles of tasks in words know."""


def worded(text: str, **data: Any) -> TextTaskDataset:
    """The dataset of a task in words as a user writes it, with the tokenizer and mixture of `data`."""
    made = load_dataset(DataConfig.parse({"task": text, **data}), lambda _: None)
    assert isinstance(made, TextTaskDataset)
    return made


def answering(dataset: TextTaskDataset, context: int, says: Callable[[Example, bool], str]) -> Guess:
    """Answers held-out examples as `says` does, told whether what says the answer was taken out of the text."""
    words, answer_to = dataset.words, dict[bytes, np.ndarray]()
    for example in dataset.examples("test", context, ASKED):
        for without in (False, True):
            text = words.joined(example.without_facts() if without else example.pieces)
            answer_to[text.tobytes()] = words.ids(says(example, without))
    lengths = sorted({len(text) // 8 for text in answer_to})

    def guess(inputs: np.ndarray) -> np.ndarray:
        said = np.zeros_like(inputs)
        for row, ids in enumerate(inputs):
            for length in lengths:
                answer = answer_to.get(ids[:length].tobytes()) if length <= len(ids) else None
                if answer is not None:
                    said[row, length - 1 : length - 1 + len(answer)] = answer[: len(ids) - length + 1]
        return said

    return guess
