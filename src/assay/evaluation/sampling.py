"""Which windows a measurement of what happens inside a model reads: drawn at random, all of one length.

Shapes: N windows, C tokens of each.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from assay.analysis.intervals.texts import FEWEST_SOURCES, Drawn, drawn_together
from assay.data.batches import permutation
from assay.data.scoring import ScoringWindows
from assay.seeding import derive
from assay.targets import IGNORED


class Sampled(NamedTuple):
    """N windows without padding, cut to the same length."""

    inputs: Int[np.ndarray, "N C"]
    targets: Int[np.ndarray, "N C"]
    """`IGNORED` where a task asks nothing."""
    drawn: Drawn
    """What an interval is over."""

    @property
    def scored(self) -> Int[np.ndarray, " N"]:
        """The number of targets of each window."""
        counts: np.ndarray = (self.targets != IGNORED).sum(1)
        return counts


def sampled(
    windows: ScoringWindows, seed: int, most_windows: int, most_tokens: int | None = None, fewest: int = FEWEST_SOURCES
) -> Sampled:
    """At most `most_windows` of `windows`, cut to one length, in an order that depends on `seed` alone.

    The length is the longest that `fewest` windows reach, or half of them where there are not twice as many; it is at
    most `most_tokens`. Windows that do not reach it are left out: every position is of as many windows as the others.
    """
    lengths = windows.lengths
    reached = np.sort(lengths)[::-1]
    length = int(reached[max(1, min(fewest, len(reached) // 2)) - 1])
    length = length if most_tokens is None else min(length, most_tokens)
    fitting = np.flatnonzero(lengths >= max(length, 1))
    rows = fitting[permutation(len(fitting), derive(seed, "sampled windows"))][:most_windows]
    drawn = drawn_together(windows.source[rows])
    return Sampled(windows.inputs[rows, :length], windows.targets[rows, :length], drawn)
