"""Models that answer tasks by a rule: with perfect memory, with one that ends, with none."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset
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
