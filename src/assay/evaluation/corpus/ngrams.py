"""The n-grams in windows of tokens, longer and longer: a number for each, and how often it occurs in training.

Shapes: R rows (windows to train on, then windows to score), L tokens of a window, G n-grams of one length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Ngrams:
    """Every n-gram of one length `n` that lies within a window, under the numbers 0 ... G - 1."""

    windows: Ints
    """[R, L], the tokens."""
    training_rows: int
    """How many of the windows, the first ones, are counted."""
    vocab_size: int
    n: int
    number: Ints
    """[R, L - n + 1], the n-gram that begins at each place."""
    context: Ints
    """[G], the number of its first n - 1 tokens among the n-grams of that length."""
    suffix: Ints
    """[G], the number of its last n - 1 tokens among them."""
    counts: Ints
    """[G], how often it occurs in the windows to train on; 0 where it is only in one to score."""

    @classmethod
    def single(cls, windows: Ints, training_rows: int, vocab_size: int) -> "Ngrams":
        """The tokens themselves. The first of a window is not counted: it is only history there."""
        nothing = np.zeros(vocab_size, np.int32)
        counts = np.bincount(windows[:training_rows, 1:].ravel(), minlength=vocab_size)
        return cls(windows, training_rows, vocab_size, 1, windows, nothing, nothing, counts)

    def longer(self) -> "Ngrams":
        """Those of n + 1 tokens: each is an n-gram and the token after it."""
        ends = self.windows[:, self.n :]
        keys = (self.number[:, :-1].astype(np.int64) * self.vocab_size + ends).ravel()
        order = np.argsort(keys)
        keys = keys[order]
        first = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=first[1:])
        number = np.empty(ends.shape, np.int32)
        number.ravel()[order] = np.cumsum(first, dtype=np.int32) - 1
        found = order[first]
        return Ngrams(
            windows=self.windows,
            training_rows=self.training_rows,
            vocab_size=self.vocab_size,
            n=self.n + 1,
            number=number,
            context=(keys[first] // self.vocab_size).astype(np.int32),
            suffix=self.number[:, 1:].ravel()[found],
            counts=np.bincount(number[: self.training_rows].ravel(), minlength=len(found)).astype(np.int32),
        )
