"""The order in which the last jobs of a queue begin, so that no worker waits long for another at the end."""

import random
from collections.abc import Sequence

TRIALS = 200
"""Orders that are drawn. With some ten jobs of three lengths, 50 come within 1% of what is possible."""


def first_of_best_order(seconds: Sequence[float], busy: Sequence[float]) -> int:
    """The place of the job that should begin now.

    `seconds` are what the jobs will take, `busy` for how long each worker is still at work. Every job goes to the
    worker that is free first. Of the orders tried, as given, longest first, and draws that are the same every time, the
    one that ends first counts, the earlier one of two.
    """
    given = list(range(len(seconds)))
    draw = random.Random(0)
    orders = [given, sorted(given, key=lambda place: -seconds[place])]
    orders += [draw.sample(given, len(given)) for _ in range(TRIALS)]
    return min(orders, key=lambda order: _end([seconds[place] for place in order], busy))[0]


def _end(seconds: Sequence[float], busy: Sequence[float]) -> float:
    """When the last worker is done."""
    free = list(busy)
    for job in seconds:
        free[free.index(min(free))] += job
    return max(free)
