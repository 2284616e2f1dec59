"""The task `permutations`: where some objects stand after the moves read so far, the word problem of S3, S4 or S5.

A move takes the objects, wherever they stand, to other places. It is written as what it makes of `abc`, and an answer
as what all moves so far made of it. With three objects:

    inputs    bac acb cab
    targets   bac bca abc

Any permutation is a move (Merrill et al. 2024, arXiv 2404.08819), or with `swaps=true` only one that
exchanges two objects (after Grazzi et al. 2024, arXiv 2411.12537).
"""

import math
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from pydantic import Field

from assay.data.batches import Batch, Ints
from assay.data.questions import Floats, Questions
from assay.data.state_tracking import FIRST_ELEMENT, TrackingAxes, exactly, read_and_ask, tracking_questions
from assay.data.task import TASKS, Task


class Axes(TrackingAxes):
    """How many objects there are, how they move, how many moves are read, and after which of them is asked."""

    objects: int = Field(5, ge=3, le=5)
    swaps: bool = False


class Moves(NamedTuple):
    """The permutations of some objects, n! in all; the first is the identity."""

    product: Ints
    """[n!, n!], the element that (what stands now, a move) come to."""
    swaps: Ints
    """Those that exchange two objects."""


@cache
def moves_of(objects: int) -> Moves:
    """All arrangements in the order of a dictionary."""
    arrangements = np.array(list(permutations(range(objects))))
    numbers = arrangements @ objects ** np.arange(objects)[::-1]
    after = arrangements[:, arrangements]  # [now, move, place]: place i gets what stood at place move[i]
    product = np.searchsorted(numbers, after @ objects ** np.arange(objects)[::-1])
    moved = (arrangements != np.arange(objects)).sum(axis=1)
    return Moves(product, np.flatnonzero(moved == 2))


def so_far(read: Ints, product: Ints) -> Ints:
    """[rows, length] what the moves `read` up to each come to."""
    states = np.empty_like(read)
    now = np.zeros(len(read), dtype=np.int64)
    for place in range(read.shape[1]):
        states[:, place] = now = product[now, read[:, place]]
    return states


@cache
def after_swaps(objects: int, length: int) -> Floats:
    """[length, n!] the chance of each arrangement after 1, 2, ... random swaps."""
    moves = moves_of(objects)
    chances = np.zeros((length + 1, len(moves.product)))
    chances[0, 0] = 1
    for place in range(length):
        # A swap undoes itself, so what leads to an arrangement is what it leads to.
        chances[place + 1] = chances[place][moves.product[:, moves.swaps]].mean(axis=1)
    return chances[1:]


def generate(axes: Axes, rows: int, context: int, generator: np.random.Generator) -> Batch:
    """Moves that are each as likely."""
    moves = moves_of(axes.objects)
    drawn = moves.swaps if axes.swaps else np.arange(len(moves.product))
    return read_and_ask(axes, drawn, lambda read: so_far(read, moves.product), rows, context, generator)


def questions(axes: Axes, batch: Batch) -> Questions:
    """Who has counted the odd moves knows which half of the arrangements it is; after few swaps some are likelier."""
    arrangements = math.factorial(axes.objects)
    bag = np.full(batch.inputs.shape[1], 2 / arrangements)
    if axes.swaps:
        bag[: axes.length] = after_swaps(axes.objects, axes.length).max(axis=1)
    return tracking_questions(batch, arrangements, bag)


def chance_nats(axes: Axes) -> float:
    """Of one who knows how many moves were read: the mean entropy of the arrangement over the positions asked for."""
    if not axes.swaps:
        return math.log(math.factorial(axes.objects))
    chances = after_swaps(axes.objects, axes.length)
    entropy = -(chances * np.log(np.where(chances > 0, chances, 1))).sum(axis=1)
    return float(entropy.mean() if axes.targets == "every" else entropy[-1])


TASKS.register(
    "permutations",
    Task(
        name="permutations",
        summary="Say how three to five objects stand after the moves read so far",
        citation="Liu et al. 2023, arXiv 2210.10749; Merrill et al. 2024, The Illusion of State, arXiv 2404.08819",
        axes=Axes,
        vocab_size=lambda axes: FIRST_ELEMENT + math.factorial(axes.objects),
        shortest=lambda axes: axes.length,
        generate=generate,
        chance_nats=chance_nats,
        questions=questions,
        held_out_axes=exactly,
    ),
)
