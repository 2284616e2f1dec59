"""The task `overwrite`: recall where keys are bound several times and the last binding counts.

Pairs of a key and a value, some of whose keys come again with another value; then each key once more among filler. With
two keys and two rewrites (letters are keys, digits values, lower case filler, `.` a position without a target):

    inputs    A 4 B 7 A 7 A 4 q B x A
    targets   . . . . . . . . . 7 . 4

As many different values occur as there are keys. Each is the last one of one key, and every earlier binding draws any
of them. So whoever answers with an earlier value of the key, as with its first, is right as often as one who guesses
among the values that occur, one over `pairs`, wherever the key was overwritten. Elsewhere its first is its last.
"""

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from assay.config import Config
from assay.data.batches import Batch
from assay.data.draws import distinct, filler_without, ordered_by
from assay.data.questions import Questions, last_before
from assay.data.task import TASKS, Task
from assay.targets import IGNORED


class Axes(Config):
    """How many keys there are, of how many ids, and how many bindings are added to one of each."""

    pairs: int = Field(4, ge=1)
    rewrites: int = Field(4, ge=0)
    """Over all keys together, each of a key drawn at random."""
    vocab: int = Field(256, ge=4)
    """Keys are the ids from 1 to below half of it, values those from half of it on."""

    @model_validator(mode="after")
    def _enough_keys(self) -> Self:
        if self.pairs > (keys := self.vocab // 2 - 1):
            raise ValueError(f"pairs={self.pairs}: vocab={self.vocab} has {keys} keys; at most so many would do")
        return self

    @property
    def values(self) -> int:
        """The number of possible answers."""
        return self.vocab - self.vocab // 2

    @property
    def bound(self) -> int:
        """Tokens of all bindings, which stand first."""
        return 2 * (self.pairs + self.rewrites)


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Bindings at the start, in random order; each key once at any place after them."""
    half, pairs, bindings = axes.vocab // 2, axes.pairs, axes.pairs + axes.rewrites
    keys = 1 + distinct(rows, half - 1, pairs, generator)
    values = half + distinct(rows, axes.values, pairs, generator)
    once = np.broadcast_to(np.arange(pairs), (rows, pairs))
    again = generator.integers(0, pairs, size=(rows, axes.rewrites))
    order = ordered_by(generator.random((rows, bindings)), bindings)
    of_key = np.take_along_axis(np.concatenate([once, again], axis=1), order, axis=1)
    value = generator.integers(0, pairs, size=(rows, bindings))
    last = bindings - 1 - (of_key[:, ::-1, None] == np.arange(pairs)).argmax(axis=1)
    np.put_along_axis(value, last, once, axis=1)
    inputs = filler_without(keys, axes.vocab, context, generator)
    targets = np.full((rows, context), IGNORED)
    inputs[:, 0 : axes.bound : 2] = np.take_along_axis(keys, of_key, axis=1)
    inputs[:, 1 : axes.bound : 2] = np.take_along_axis(values, value, axis=1)
    places = axes.bound + distinct(rows, context - axes.bound, pairs, generator)
    np.put_along_axis(inputs, places, keys, axis=1)
    np.put_along_axis(targets, places, values, axis=1)
    return Batch(inputs, targets)


def questions(axes: Axes, batch: Batch) -> Questions:
    """The answer rests on the last binding of its key; without it each of the values that occur is as likely."""
    asked = batch.targets != IGNORED
    places = np.arange(batch.inputs.shape[1])
    stored = np.where((places < axes.bound) & (places % 2 == 0), batch.inputs, -1)
    back = places - last_before(np.where(asked, batch.inputs, -2), stored)
    overwritten = np.zeros(asked.shape, dtype=np.int64)
    rows, at = np.nonzero(asked)
    overwritten[rows, at] = (stored[rows] == batch.inputs[rows, at][:, None]).sum(axis=1) - 1
    return Questions(
        uniform=np.full(asked.shape, 1 / axes.values),
        bag=np.full(asked.shape, 1 / axes.pairs),
        distance=back,
        difficulty={"overwritten": overwritten},
    )


TASKS.register(
    "overwrite",
    Task(
        name="overwrite",
        summary="Recall the last value of each of several keys, some of which were bound several times",
        citation="after Arora et al. 2023, Zoology, arXiv 2312.04927, whose keys are bound once",
        axes=Axes,
        vocab_size=lambda axes: axes.vocab,
        shortest=lambda axes: axes.bound + axes.pairs,
        generate=generate,
        chance_nats=lambda axes: math.log(axes.values),
        questions=questions,
        capacity="pairs",
    ),
)
