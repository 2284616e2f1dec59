"""Random draws that tasks share: different numbers in each row, and filler that repeats no key."""

import numpy as np

from assay.data.batches import Ints


def distinct(rows: int, n: int, count: int, generator: np.random.Generator) -> Ints:
    """[rows, count] different numbers below `n` in each row, in random order."""
    return ordered_by(generator.random((rows, n)), count)


def ordered_by(scores: np.ndarray, count: int) -> Ints:
    """[rows, count] the columns of the highest scores, from the highest on."""
    top = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1).astype(np.int64)


def filler_without(keys: Ints, vocab: int, context: int, generator: np.random.Generator) -> Ints:
    """[rows, context] random ids below `vocab`, none of them among the `keys` [rows, n] of the row, all different."""
    rows, n = keys.shape
    drawn = generator.integers(0, vocab - n, size=(rows, context))
    for key in np.sort(keys, axis=1).T:
        drawn += drawn >= key[:, None]
    return drawn
