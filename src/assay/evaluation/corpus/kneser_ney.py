"""Interpolated modified Kneser-Ney: the probability of every token of some windows under n-gram models of each order.

Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", sections 2.7 and 3. With h a
history, h' the same without its first token, and c the count of an n-gram:

    p(w | h) = max(c(h w) - d(c(h w)), 0) / c(h) + (sum over v of d(c(h v))) / c(h) * p'(w | h')

c(h) is the sum of c(h v) over v, d(0) = 0. At the highest order c counts occurrences; p' has the same form with
continuation counts: the number of tokens that stand before the n-gram. Where h never occurred, p = p'. Below the
unigrams lies the uniform distribution. So all tokens after one history have probabilities above zero that sum to one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.evaluation.corpus.ngrams import Ints, Ngrams

Floats = NDArray[np.float64]
Discounts = tuple[float, float, float]
"""What is taken from n-grams that were counted once, twice, and more often."""

FEW_COUNTS: Discounts = (0.5, 1.0, 1.5)
"""Where there are too few n-grams to estimate discounts by the formula, or these are none."""


class Scored(NamedTuple):
    """One order: the probability of each token, and the discounts of each length of n-gram, the shortest first."""

    probabilities: Floats
    discounts: list[Discounts]


def orders(train: Ints, windows: Ints, vocab_size: int) -> Iterator[Scored]:
    """The models of order 1, 2, ... that are trained on `train` [N, L], each with the probabilities [M, L - 1] that it
    gives the tokens of `windows` [M, L] but their first.

    A history reaches back to the start of its window and no further: where it is shorter than an order asks, the
    probability is that of the order it suffices for. Ends with the order L.
    """
    grams = Ngrams.single(np.concatenate([train, windows]).astype(np.int32), len(train), vocab_size)
    histories = np.zeros((len(windows), windows.shape[1] - 1), np.int32)
    lower = np.full(histories.shape, 1 / vocab_size)
    probabilities, discounts = lower, list[Discounts]()
    while True:
        numbers = grams.number[len(train) :]
        reached = slice(-histories.shape[1], None)  # the tokens that have so long a history
        targets = numbers[:, reached]
        own = estimate_discounts(grams.counts)
        probabilities = probabilities.copy()
        probabilities[:, reached] = _interpolated(grams, grams.counts, own, histories, targets, lower[:, reached])
        yield Scored(probabilities, [*discounts, own])
        if grams.n == windows.shape[1]:
            return
        longer = grams.longer()
        before = np.bincount(longer.suffix[longer.counts > 0], minlength=len(grams.counts))
        discounts.append(estimate_discounts(before))
        lower[:, reached] = _interpolated(grams, before, discounts[-1], histories, targets, lower[:, reached])
        grams, histories = longer, numbers[:, :-1]


def _interpolated(
    grams: Ngrams, counts: Ints, discounts: Discounts, histories: Ints, targets: Ints, lower: Floats
) -> Floats:
    """The formula at one order: probabilities of the n-grams `targets` after `histories`, from those one order below.

    `counts` [G] of `grams` are occurrences, or tokens that stand before.
    """
    discount = np.array([0.0, *discounts])
    asked = np.zeros(int(grams.context.max()) + 1, bool)
    asked[histories] = True
    place = np.cumsum(asked, dtype=np.int32) - 1
    after = asked[grams.context]
    history, count = place[grams.context[after]], counts[after]
    taken = np.bincount(history, weights=discount[np.minimum(count, 3)])[place[histories]]
    total = np.bincount(history, weights=count)[place[histories]]
    own = counts[targets]
    mixed = (own - discount[np.minimum(own, 3)] + taken * lower) / np.maximum(total, 1)
    return np.where(total > 0, mixed, lower)


def estimate_discounts(counts: Ints) -> Discounts:
    """Chen and Goodman's formula from how many n-grams were counted once, twice, three and four times.

    `FEW_COUNTS` where it is not defined or a discount is not between 0 and the count that it is taken from.
    """
    once, twice, thrice, four = (int(n) for n in np.bincount(np.minimum(counts, 5), minlength=5)[1:5])
    if not (once and twice and thrice):
        return FEW_COUNTS
    share = once / (once + 2 * twice)
    found = (1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice)
    return found if all(0 < taken < count for count, taken in enumerate(found, 1)) else FEW_COUNTS
