"""The task `copying`: read some symbols, then repeat them (Jelassi et al. 2024, arXiv 2402.01032, section 3).

With three symbols; `|` is the sign to begin and `.` a position without a target:

    inputs    d a c | d a
    targets   . . . d a c
"""

import math

import numpy as np
from pydantic import Field

from assay.config import Config
from assay.data.batches import Batch
from assay.data.questions import Questions, share_of_most_frequent
from assay.data.task import TASKS, Task
from assay.targets import IGNORED

PADDING, BEGIN, FIRST_SYMBOL = 0, 1, 2
"""The first ids; those from FIRST_SYMBOL on are symbols."""


class Axes(Config):
    """How many different symbols there are, and how many a sequence has."""

    symbols: int = Field(64, ge=2)
    length: int | None = Field(None, ge=1)
    """None: as many as the context holds, which is half of it."""


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Rows of uniformly drawn symbols and their copy; the rest of a row is padding without targets."""
    length = axes.length or context // 2
    symbols = generator.integers(FIRST_SYMBOL, FIRST_SYMBOL + axes.symbols, size=(rows, length))
    inputs = np.full((rows, context), PADDING)
    targets = np.full((rows, context), IGNORED)
    inputs[:, :length] = symbols
    inputs[:, length] = BEGIN
    inputs[:, length + 1 : 2 * length] = symbols[:, :-1]
    targets[:, length : 2 * length] = symbols
    return Batch(inputs, targets)


def questions(axes: Axes, batch: Batch) -> Questions:
    """Each symbol stands as far back as the sequence is long; the most frequent one is the best guess without order."""
    asked = batch.targets != IGNORED
    length = int(asked[0].sum())
    return Questions(
        uniform=np.full(asked.shape, 1 / axes.symbols),
        bag=np.broadcast_to(share_of_most_frequent(batch.inputs[:, :length]), asked.shape),
        distance=np.full(asked.shape, length),
        difficulty={"place": np.broadcast_to(np.maximum(np.arange(asked.shape[1]) - length, 0), asked.shape)},
    )


TASKS.register(
    "copying",
    Task(
        name="copying",
        summary="read some symbols, then repeat them",
        citation="Jelassi et al. 2024, Repeat After Me, arXiv 2402.01032",
        axes=Axes,
        vocab_size=lambda axes: FIRST_SYMBOL + axes.symbols,
        shortest=lambda axes: 2 * (axes.length or 1),
        generate=generate,
        chance_nats=lambda axes: math.log(axes.symbols),
        questions=questions,
        capacity="length",
    ),
)
