"""The task `selective_copying`: symbols among blanks, then repeated in order (Gu and Dao 2023, arXiv 2312.00752).

It is the denoising task of Jing et al. 2019 (arXiv 1706.02761), with the answers after all that is read. With three
symbols; `_` is a blank, `|` the sign to answer with the next symbol, `.` a position without a target:

    inputs    _ d a _ _ _ c _ | | |
    targets   . . . . . . . . d a c

Answers are not fed back, so that they cannot be found by the symbol before them as in `copying`. Blanks fill the rest
of the context.
"""

import math

import numpy as np
from pydantic import Field

from assay.config import Config
from assay.data.batches import Batch
from assay.data.draws import distinct
from assay.data.questions import Questions, share_of_most_frequent
from assay.data.task import TASKS, Task
from assay.targets import IGNORED

BLANK, ANSWER, FIRST_SYMBOL = 0, 1, 2
"""The first ids; those from FIRST_SYMBOL on are symbols."""


class Axes(Config):
    """How many different symbols there are, and how many a sequence has."""

    symbols: int = Field(16, ge=2)
    length: int = Field(16, ge=1)


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Rows of uniformly drawn symbols at places that are drawn too, and as many signs to answer at the end."""
    read = context - axes.length
    symbols = generator.integers(FIRST_SYMBOL, FIRST_SYMBOL + axes.symbols, size=(rows, axes.length))
    inputs = np.full((rows, context), BLANK)
    targets = np.full((rows, context), IGNORED)
    np.put_along_axis(inputs, np.sort(distinct(rows, read, axes.length, generator), axis=1), symbols, axis=1)
    inputs[:, read:] = ANSWER
    targets[:, read:] = symbols
    return Batch(inputs, targets)


def questions(axes: Axes, batch: Batch) -> Questions:
    """Each answer rests on its symbol, wherever that stands; the most frequent one is the best guess without order."""
    shape, read = batch.inputs.shape, batch.inputs.shape[1] - axes.length
    rows, places = np.nonzero(batch.inputs >= FIRST_SYMBOL)
    symbols = batch.inputs[rows, places].reshape(-1, axes.length)
    distance = np.zeros(shape, dtype=np.int64)
    distance[:, read:] = np.arange(read, shape[1]) - places.reshape(-1, axes.length)
    return Questions(
        uniform=np.full(shape, 1 / axes.symbols),
        bag=np.broadcast_to(share_of_most_frequent(symbols), shape),
        distance=distance,
        difficulty={"place": np.broadcast_to(np.maximum(np.arange(shape[1]) - read, 0), shape)},
    )


TASKS.register(
    "selective_copying",
    Task(
        name="selective_copying",
        summary="Read symbols at random places among blanks, then repeat them in order",
        citation="Gu and Dao 2023, Mamba, arXiv 2312.00752; Jing et al. 2019, arXiv 1706.02761",
        axes=Axes,
        vocab_size=lambda axes: FIRST_SYMBOL + axes.symbols,
        shortest=lambda axes: 2 * axes.length,
        generate=generate,
        chance_nats=lambda axes: math.log(axes.symbols),
        questions=questions,
        capacity="length",
    ),
)
