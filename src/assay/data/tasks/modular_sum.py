"""The task `modular_sum`: the sum modulo m of the numbers read so far (Liu et al. 2023, arXiv 2210.10749).

With `modulus=5`:

    inputs    3 4 0 2
    targets   3 2 2 4
"""

import math

import numpy as np
from pydantic import Field

from assay.data.batches import Batch
from assay.data.questions import Questions
from assay.data.state_tracking import FIRST_ELEMENT, TrackingAxes, exactly, read_and_ask, tracking_questions
from assay.data.task import TASKS, Task


class Axes(TrackingAxes):
    """How many numbers there are, how many are read, and after which of them is asked."""

    modulus: int = Field(5, ge=2)


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Numbers from 0 to below the modulus, each as likely, so that each sum is too."""
    return read_and_ask(
        axes, np.arange(axes.modulus), lambda read: read.cumsum(axis=1) % axes.modulus, rows, context, generator
    )


def questions(axes: Axes, batch: Batch) -> Questions:
    """The order of what is added says nothing, so to know the bag is to know the sum: its floor is the uniform one."""
    return tracking_questions(batch, axes.modulus, 1 / axes.modulus)


TASKS.register(
    "modular_sum",
    Task(
        name="modular_sum",
        summary="Say the sum modulo m of the numbers read so far",
        citation="Liu et al. 2023, Transformers Learn Shortcuts to Automata, arXiv 2210.10749",
        axes=Axes,
        vocab_size=lambda axes: FIRST_ELEMENT + axes.modulus,
        shortest=lambda axes: axes.length,
        generate=generate,
        chance_nats=lambda axes: math.log(axes.modulus),
        questions=questions,
        held_out_axes=exactly,
    ),
)
