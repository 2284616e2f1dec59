"""Models without a network, trained on the same tokens: what a score must beat to mean anything.

Unigram: add-one (Laplace). Best n-gram: interpolated modified Kneser-Ney (`kneser_ney`) of the order that predicts the
validation text best; the test text chooses nothing.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.data.scoring import ScoringWindows
from assay.evaluation.corpus.kneser_ney import Discounts, Floats, orders
from assay.evaluation.corpus.ngrams import Ints
from assay.targets import IGNORED

HIGHEST_ORDER = 6
"""On bytes of the standard library orders 7 and 8 would take off another 0.03 nats after 0.4 million tokens and 0.06
after seven million (docs/measurements.md)."""


@dataclass(frozen=True)
class NgramFloors:
    """Nats of every target of the test windows, by row, padding left out, and how the n-gram was chosen."""

    unigram: Floats
    """[n_targets]"""
    ngram: Floats
    """[n_targets]"""
    order: int
    """Of the n-gram: as many tokens as it looks at, the predicted one among them."""
    discounts: list[Discounts]
    """What it takes from n-grams counted once, twice and more often, for 1 ... `order` tokens."""
    validation_nats: list[float]
    """Mean nats of the validation targets under the orders 1, 2, ..., all that were tried."""
    test_nats: list[float]
    """The same of the test targets."""


def ngram_floors(train: Ints, validation: ScoringWindows, test: ScoringWindows, vocab_size: int) -> NgramFloors:
    """Train on `train` [N, C + 1], windows of which the first token is history only, and score the targets of `test`.

    A history reaches back to the start of its window and no further. Of the orders 1 ... `HIGHEST_ORDER` (C + 1 where
    that is less) the n-gram has the one with the fewest nats on `validation`.
    """
    length = train.shape[1]
    windows = np.concatenate([_sequences(of, length) for of in (validation, test)])
    scored = np.concatenate([_scored(of, length) for of in (validation, test)])
    split = int(scored[: len(validation.targets)].sum())
    best: Floats = np.empty(0)
    discounts: list[Discounts] = []
    means: list[tuple[float, float]] = []
    for model in itertools.islice(orders(train, windows, vocab_size), HIGHEST_ORDER):
        nats = -np.log(model.probabilities[scored])
        if not means or nats[:split].mean() < min(means)[0]:
            best, discounts = nats[split:], model.discounts
        means.append((float(nats[:split].mean()), float(nats[split:].mean())))
    counts = np.bincount(train[:, 1:].ravel(), minlength=vocab_size) + 1
    targets = test.targets[test.targets != IGNORED]
    return NgramFloors(
        unigram=-np.log(counts[targets] / counts.sum()),
        ngram=best,
        order=len(discounts),
        discounts=discounts,
        validation_nats=[nats for nats, _ in means],
        test_nats=[nats for _, nats in means],
    )


def _sequences(windows: ScoringWindows, length: int) -> Ints:
    """[N, length]: the inputs of each window and its last target, with anything after them."""
    rows, context = windows.inputs.shape
    if context >= length:
        raise ValueError(f"windows of {context} tokens to score, {length - 1} to train on")
    sequences = np.zeros((rows, length), np.int64)
    sequences[:, :context] = windows.inputs
    scored = _scored(windows, length)
    sequences[:, 1:][scored] = windows.targets[windows.targets != IGNORED]
    return sequences


def _scored(windows: ScoringWindows, length: int) -> NDArray[np.bool_]:
    """[N, length - 1]: which tokens after the first are targets."""
    scored = np.zeros((len(windows.targets), length - 1), bool)
    scored[:, : windows.targets.shape[1]] = windows.targets != IGNORED
    return scored
