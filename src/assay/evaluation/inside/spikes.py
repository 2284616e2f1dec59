"""Loss spikes by a stated rule: steps whose loss is far above that of the steps before."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WINDOW = 50
"""Steps before that a loss is held against."""
FEWEST = 10
"""With fewer steps before it nothing is said of a step."""
DEVIATIONS = 6.0
LEAST_NATS = 0.05
"""A smaller rise is no spike, however steady the losses before were."""
NORMAL = 1.4826
"""The standard deviation of normal numbers over their median absolute deviation."""


class Spike(NamedTuple):
    """Successive steps above the limit."""

    first: int
    """Number of the first of them, from 1."""
    steps: int
    height_nats: float
    """The highest loss over the median before."""


def spikes(losses: Sequence[float]) -> list[Spike]:
    """Steps whose loss is over the median of the 50 before by six times their deviation, and by 0.05 nats.

    The deviation is 1.4826 times the median absolute deviation, which a spike among the 50 hardly moves. Of a loss that
    only falls nothing is a spike. On normal noise about one step in 100,000 is taken for one. A loss that is not a
    number counts as infinite.
    """
    values = np.nan_to_num(np.asarray(losses, np.float64), nan=np.inf, posinf=np.inf)
    found: list[Spike] = []
    for step in range(FEWEST, len(values)):
        before = values[max(0, step - WINDOW) : step]
        before = before[np.isfinite(before)]
        if not len(before):
            continue
        median = float(np.median(before))
        deviation = NORMAL * float(np.median(np.abs(before - median)))
        height = float(values[step] - median)
        if height <= max(DEVIATIONS * deviation, LEAST_NATS):
            continue
        if found and found[-1].first + found[-1].steps == step + 1:
            last = found[-1]
            found[-1] = last._replace(steps=last.steps + 1, height_nats=max(last.height_nats, height))
        else:
            found.append(Spike(step + 1, 1, height))
    return found
