"""Which sequences a model is looked at on, and the mode and the hooks that it is looked at with.

Shapes: N sequences, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from torch import nn

from assay.analysis.statistics import mean_interval
from assay.data.scoring import ScoringWindows
from assay.records import Interval

SHORTEST = 0.75
"""Windows below this share of the longest one are left out, as all are cut to the shortest."""
BATCH_TOKENS = 4_096
"""Tokens of one forward pass."""


class Sequences(NamedTuple):
    """Inputs of equal length, and the document of each."""

    inputs: Int[np.ndarray, "N T"]
    document: Int[np.ndarray, " N"]

    def batches(self, most_rows: int | None = None) -> Iterator[slice]:
        """Consecutive rows with at most BATCH_TOKENS tokens and at most `most_rows`, at least one row."""
        rows = max(1, min(BATCH_TOKENS // max(1, self.inputs.shape[1]), most_rows or len(self.inputs)))
        for low in range(0, len(self.inputs), rows):
            yield slice(low, low + rows)


def fullest_rows(windows: ScoringWindows, most: int) -> tuple[Int[np.ndarray, " N"], int]:
    """Up to `most` of the fullest windows, of as many documents as there are, and the length of the shortest.

    Windows of one document are alike, so that a second one says little: each document has its first one before any
    document has its second.
    """
    lengths = windows.lengths
    long = np.flatnonzero(lengths >= max(1, SHORTEST * lengths.max()))
    long = long[np.argsort(-lengths[long], kind="stable")]
    earlier: dict[int, int] = {}
    turn = np.empty(len(long), np.int64)
    for place, row in enumerate(long):
        turn[place] = earlier.get(int(windows.document[row]), 0)
        earlier[int(windows.document[row])] = int(turn[place]) + 1
    rows = np.sort(long[np.argsort(turn, kind="stable")][:most])
    return rows, int(lengths[rows].min())


def fullest(windows: ScoringWindows, most: int) -> Sequences:
    """The inputs of these windows, cut to the length of the shortest."""
    rows, length = fullest_rows(windows, most)
    return Sequences(windows.inputs[rows][:, :length], windows.document[rows])


def over_documents(values: np.ndarray, document: Int[np.ndarray, " N"]) -> Interval:
    """The mean of `values` [N] over documents and Student's interval; none for a single document."""
    _, number = np.unique(document, return_inverse=True)
    return mean_interval((np.bincount(number, weights=values) / np.bincount(number)).tolist())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Callable[[Any], object]]]) -> Iterator[None]:
    """Each function is given what its module returns, the state left out; the hooks are gone afterwards."""

    def hook(see: Callable[[Any], object]) -> Callable[[nn.Module, Any, Any], None]:
        def call(_: nn.Module, __: Any, output: Any) -> None:
            see(output[0] if isinstance(output, tuple) else output)

        return call

    with ExitStack() as stack:
        for module, see in hooks:
            stack.callback(module.register_forward_hook(hook(see)).remove)
        yield
