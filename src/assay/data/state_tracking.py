"""What tasks of state tracking share: elements are read one by one, and asked for is what they come to so far.

The id 0 is padding and 1 + e stands for element e, also as an answer (Liu et al. 2023, arXiv 2210.10749).
"""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.batches import Batch, Ints
from assay.data.questions import EVERYTHING, Floats, Questions
from assay.targets import IGNORED

PADDING, FIRST_ELEMENT = 0, 1


class TrackingAxes(Config):
    """How many elements are read, and after which of them is asked."""

    length: int = Field(40, ge=1)
    targets: Literal["every", "last"] = "every"
    """After every element, or after the last one alone."""
    at_most: bool = False
    """Whether training draws lengths from 1 to `length`; validation and test always have exactly `length`."""

    @model_validator(mode="after")
    def _shorter_ones_are_asked(self) -> Self:
        if self.at_most and self.targets == "every":
            raise ValueError("at_most=true: targets=every asks at each shorter length already; targets=last would do")
        return self


def exactly(axes: TrackingAxes) -> TrackingAxes:
    """The axes of validation and test: every sequence has the whole length."""
    return axes.model_copy(update={"at_most": False})


def read_and_ask(
    axes: TrackingAxes,
    drawn: Ints,
    so_far: Callable[[Ints], Ints],
    rows: int,
    context: int,
    generator: np.random.Generator,
) -> Batch:
    """Sequences of elements from `drawn`, each as likely; the rest of the context is padding without targets.

    `so_far`: elements [rows, length] -> what those up to each come to, an element too.
    """
    read = drawn[generator.integers(0, len(drawn), size=(rows, axes.length))]
    lengths = np.full((rows, 1), axes.length)
    if axes.at_most:
        lengths = generator.integers(1, axes.length + 1, size=(rows, 1))
    place = np.arange(axes.length)
    asked = place < lengths if axes.targets == "every" else place == lengths - 1
    inputs = np.full((rows, context), PADDING)
    targets = np.full((rows, context), IGNORED)
    inputs[:, : axes.length] = np.where(place < lengths, FIRST_ELEMENT + read, PADDING)
    targets[:, : axes.length] = np.where(asked, FIRST_ELEMENT + so_far(read), IGNORED)
    return Batch(inputs, targets)


def tracking_questions(batch: Batch, elements: int, bag: Floats | float) -> Questions:
    """Every answer rests on all that was read; `bag` is its chance for one who only counts, [C] or for all alike."""
    shape = batch.targets.shape
    return Questions(
        uniform=np.full(shape, 1 / elements),
        bag=np.broadcast_to(np.asarray(bag, dtype=np.float64), shape),
        distance=np.full(shape, EVERYTHING),
        difficulty={"read": np.broadcast_to(1 + np.arange(shape[1]), shape)},
    )
