"""Training batches of two sources: some rows are windows of a corpus, the others sequences of a task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from assay.data.batches import Batch, Batches


class Portion(NamedTuple):
    """The rows of every batch that come from one source."""

    name: str
    rows: int
    weight: float | None
    """What the mean over its targets weighs in the loss; None: every target of the batch counts alike."""


class MixedBatches:
    """Batches whose first rows are the corpus's and whose last ones the task's; both depend on seed and step alone."""

    def __init__(self, text: Batches, task: Batches, portions: Sequence[Portion]) -> None:
        """`portions`: of the text, then of the task."""
        self.text, self.task, self.portions = text, task, portions
        self.seed = task.seed

    def batch(self, step: int) -> Batch:
        """The batch of `step`, counted from 0."""
        parts = zip(self.text.batch(step), self.task.batch(step), strict=True)
        inputs, targets = (np.concatenate(both) for both in parts)
        return Batch(inputs, targets)


def portions_of(batches: Batches) -> Sequence[Portion]:
    """The portions of which each batch consists, in the order of its rows; none where it is of one source."""
    return batches.portions if isinstance(batches, MixedBatches) else ()
