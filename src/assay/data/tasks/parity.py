"""The task `parity`: whether the ones read so far are odd in number (Liu et al. 2023, arXiv 2210.10749).

    inputs    1 0 1 1
    targets   1 1 0 1

With `targets=last` only the last answer is asked for, as in Grazzi et al. 2024 (arXiv 2411.12537).
"""

import math

import numpy as np

from assay.data.batches import Batch
from assay.data.questions import Questions
from assay.data.state_tracking import FIRST_ELEMENT, TrackingAxes, exactly, read_and_ask, tracking_questions
from assay.data.task import TASKS, Task


def generate(axes: TrackingAxes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Zeros and ones, each as likely, so that both answers are too."""
    return read_and_ask(axes, np.arange(2), lambda read: read.cumsum(axis=1) % 2, rows, context, generator)


def questions(_: TrackingAxes, batch: Batch) -> Questions:
    """The order of the bits says nothing, so to know the bag is to know the parity: its floor is the uniform one."""
    return tracking_questions(batch, 2, 1 / 2)


TASKS.register(
    "parity",
    Task(
        name="parity",
        summary="Say whether the ones read so far are odd in number",
        citation="Liu et al. 2023, Transformers Learn Shortcuts to Automata, arXiv 2210.10749",
        axes=TrackingAxes,
        vocab_size=lambda _: FIRST_ELEMENT + 2,
        shortest=lambda axes: axes.length,
        generate=generate,
        chance_nats=lambda _: math.log(2),
        questions=questions,
        held_out_axes=exactly,
    ),
)
