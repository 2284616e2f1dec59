"""The task `mqar`, multi-query associative recall (Arora et al. 2023, arXiv 2312.04927, section 3 and appendix B).

Pairs of a key and a value, then each key once more among filler, at a place drawn by a power law; the answer is its
value. With two pairs (letters are keys, digits values, `.` a position without a target, lower case filler):

    inputs    A 4 B 7 B q x A
    targets   . . . . 7 . . 4

The published form is `mqar:vocab=8192,filler=random`; there filler is any id, so that with few ids it repeats keys of
the sequence by accident. The default, `filler=clean`, draws it from the ids that are no key of the sequence.
"""

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.batches import Batch, Ints
from assay.data.draws import distinct, filler_without, ordered_by
from assay.data.questions import Questions, last_before
from assay.data.task import TASKS, Task
from assay.targets import IGNORED


class Axes(Config):
    """How many pairs there are, of how many keys and values, and what stands between the queries."""

    pairs: int = Field(4, ge=1)
    vocab: int = Field(256, ge=4)
    """Keys are the ids from 1 to below half of it, values those from half of it on."""
    filler: Literal["clean", "random"] = "clean"
    power: float = Field(0.01, gt=0)
    """Queries stand at slot x with a chance in proportion to x^(power - 1): the smaller, the nearer to the pairs."""

    @model_validator(mode="after")
    def _enough_keys(self) -> Self:
        if self.pairs > (keys := self.vocab // 2 - 1):
            raise ValueError(f"pairs={self.pairs}: vocab={self.vocab} has {keys} keys; at most so many would do")
        return self

    @property
    def values(self) -> int:
        """The number of possible answers."""
        return self.vocab - self.vocab // 2


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Pairs at the start; queries at every second position after them, at most."""
    half, pairs = axes.vocab // 2, axes.pairs
    keys = 1 + distinct(rows, half - 1, pairs, generator)
    values = half + distinct(rows, axes.values, pairs, generator)
    slots = (context - 2 * pairs) // 2
    chances = np.log(np.arange(1, slots + 1)) * (axes.power - 1)
    places = 2 * pairs + 2 * ordered_by(chances + generator.gumbel(size=(rows, slots)), pairs)
    inputs = _filler(axes, keys, context, generator)
    targets = np.full((rows, context), IGNORED)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    np.put_along_axis(inputs, places, keys, axis=1)
    np.put_along_axis(targets, places, values, axis=1)
    return Batch(inputs, targets)


def _filler(axes: Axes, keys: Ints, context: int, generator: np.random.Generator) -> Ints:
    """[rows, context] random ids; in the clean form none that is a key of the row."""
    if axes.filler == "random":
        return generator.integers(0, axes.vocab, size=(len(keys), context))
    return filler_without(keys, axes.vocab, context, generator)


def questions(axes: Axes, batch: Batch) -> Questions:
    """What the answer rests on is the pair of its key; each of the values of the pairs is as likely without it."""
    asked = batch.targets != IGNORED
    stored = np.where(np.arange(batch.inputs.shape[1]) < 2 * axes.pairs, batch.inputs, -1)
    stored[:, 1::2] = -1
    back = np.arange(batch.inputs.shape[1]) - last_before(np.where(asked, batch.inputs, -2), stored)
    return Questions(
        uniform=np.full(asked.shape, 1 / axes.values),
        bag=np.full(asked.shape, 1 / axes.pairs),
        distance=back,
        context=np.full(len(asked), 2 * axes.pairs),
    )


def twin(axes: Axes, batch: Batch, generator: np.random.Generator) -> Batch:
    """The same keys with other values: all values of a sequence moved on by the same number of places."""
    half, n = axes.vocab // 2, axes.values
    moved = generator.integers(1, n, size=(len(batch.inputs), 1))
    inputs, stored = batch.inputs.copy(), slice(1, 2 * axes.pairs, 2)
    inputs[:, stored] = half + (inputs[:, stored] - half + moved) % n
    asked = batch.targets != IGNORED
    return Batch(inputs, np.where(asked, half + (batch.targets - half + moved) % n, IGNORED))


TASKS.register(
    "mqar",
    Task(
        name="mqar",
        summary="Recall the value of each of several keys, from pairs at the start",
        citation="Arora et al. 2023, Zoology, arXiv 2312.04927",
        axes=Axes,
        vocab_size=lambda axes: axes.vocab,
        shortest=lambda axes: 4 * axes.pairs,
        generate=generate,
        chance_nats=lambda axes: math.log(axes.values),
        questions=questions,
        twin=twin,
        capacity="pairs",
    ),
)
