"""Training batches, a function of (seed, step) alone, and a hash chain that shows two runs read the same batches."""

import hashlib
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.data.text.tokenized import Ids
from assay.errors import RequestError
from assay.seeding import derive
from assay.targets import IGNORED

Order = Literal["shuffled", "sequential"]
Ints = NDArray[np.int64]


class Batch(NamedTuple):
    """What a model reads and what it is to predict, both int64 [B, T]; `targets` is IGNORED where there is none."""

    inputs: Ints
    targets: Ints

    @property
    def scored(self) -> int:
        """The number of targets that are not IGNORED."""
        return int((self.targets != IGNORED).sum())


class Batches(Protocol):
    """The training batches of one run."""

    seed: int

    def batch(self, step: int) -> Batch:
        """The batch of `step`, counted from 0; it depends on the seed and the step alone."""


class PackedWindows:
    """Windows of `context` + 1 tokens, one after the other at stride `context`: each token is a target once per epoch.

    The stream's first token, and those at its end that fill no window, are never targets. "shuffled" draws a new order
    of the windows for each epoch; "sequential" keeps that of the stream.
    """

    def __init__(self, ids: Ids, context: int, batch_size: int, seed: int, order: Order = "shuffled") -> None:
        """`ids`: [n_tokens]; `batch_size` in windows. A stream too short for one window is a RequestError."""
        if context < 1:
            raise RequestError(f"--context {context}: at least 1 token is needed")
        if len(ids) < context + 1:
            raise RequestError(
                f"--context {context}: the training split has {len(ids)} tokens and one window needs {context + 1}; "
                f"--context {max(1, len(ids) - 1)} or less, or a longer text would do"
            )
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size}: 1 is the least")
        self.context = context
        self.batch_size = batch_size
        self.windows = (len(ids) - 1) // context
        """The number of windows in an epoch."""
        self._ids = ids
        self.seed = seed
        self._order = order
        self._permutation: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def batch(self, step: int) -> Batch:
        """The batch of `step`, counted from 0, every token a target. A batch may span the end of an epoch."""
        if step < 0:
            raise ValueError(f"step {step}: 0 is the least")
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        windows = np.empty(self.batch_size, dtype=np.int64)
        epochs = numbers // self.windows
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = epochs == epoch
            windows[here] = self._epoch(epoch)[numbers[here] % self.windows]
        places = windows[:, None] * self.context + np.arange(self.context + 1)
        tokens = np.asarray(self._ids[places], dtype=np.int64)
        return Batch(tokens[:, :-1], tokens[:, 1:])

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """The order of the windows in `epoch`; that of the epoch asked for last is cached."""
        if self._permutation[0] != epoch:
            order = np.arange(self.windows)
            if self._order == "shuffled":
                order = permutation(self.windows, derive(self.seed, "data", epoch))
            self._permutation = (epoch, order)
        return self._permutation[1]


def permutation(n: int, seed: int) -> NDArray[np.int64]:
    """A random order of 0..n-1, by sorting n random 64-bit numbers.

    numpy promises that the raw stream of a bit generator never changes between versions, but not so the result of
    Generator.permutation.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


class Chain:
    """A hash chain over the batches read, h_t = SHA-256(h_{t-1}, inputs, targets).

    Equal last hashes (heads) mean equal batches in the same order. Inputs and targets enter as shape and values, in
    little-endian int64.
    """

    def __init__(self, head: str = "0" * 64) -> None:
        self.head = head

    def update(self, batch: Batch) -> str:
        """Add one batch and return the new head, 64 hexadecimal digits."""
        link = hashlib.sha256(bytes.fromhex(self.head))
        for part in batch:
            link.update(np.array(part.shape, dtype="<i8").tobytes())
            link.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        self.head = link.hexdigest()
        return self.head
