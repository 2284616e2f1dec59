"""Small things that the tests of measurements share: a corpus of bytes, a plan, a tiny model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.data.scoring import ScoringWindows
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import MEASUREMENTS, Given, Measurement
from assay.evaluation.measuring import measure_model
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.targets import IGNORED

PLAN = ExecutionPlan(device="cpu", precision="float32", compile=False, op_form="chunked", chunk_length=64, threads=1)


def tiny(name: str = "gpt1", **dimensions: object) -> LanguageModel:
    """A model of a vocabulary of 61 in evaluation's hands."""
    architecture = ARCHITECTURES.get(name)
    return build_model(architecture, architecture.config.parse({**architecture.tiny, **dimensions}), 0)


def windows(rows: Sequence[Sequence[int]], context: int, document: Sequence[int], size: int = 1) -> ScoringWindows:
    """One window for each row of tokens (its first is input only), padded to `context`; `size` bytes a token."""
    inputs = np.zeros((len(rows), context), np.int64)
    targets = np.full((len(rows), context), IGNORED)
    for index, row in enumerate(rows):
        inputs[index, : len(row) - 1] = row[:-1]
        targets[index, : len(row) - 1] = row[1:]
    lengths = (targets != IGNORED).sum(1)
    offsets = np.zeros(len(rows), np.int64)
    return ScoringWindows(inputs, targets, np.asarray(document), np.asarray(document), offsets, lengths * size)


def given(model: LanguageModel, batch: ScoringWindows, invertible: bool = True, **changes: Any) -> Given:
    """The trained `model` with `batch` as all the text there is."""
    architecture = ARCHITECTURES.get("gpt1")
    values: dict[str, Any] = {
        "label": "tiny",
        "seed": 0,
        "architecture": architecture,
        "config": architecture.config.parse(architecture.tiny),
        "plan": PLAN,
        "evaluation": EvaluationConfig(),
        "models": {"trained": lambda: model},
        "texts": {"held_out": lambda: batch, "validation": lambda: batch},
        "invertible": invertible,
    }
    return Given(**{**values, **changes})


def measured(name: str, model: LanguageModel, batch: ScoringWindows, invertible: bool = True) -> Any:
    """The values of one measurement."""
    measurement = MEASUREMENTS.get(name)
    assert isinstance(measurement, Measurement)
    return measure_model([measurement], given(model, batch, invertible))[0]
