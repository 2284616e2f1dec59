"""How far a number may be on other text of the same kind: the held-out documents as a sample of sources."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from assay.analysis.statistics import LEVEL
from assay.records import Interval

FEWEST_SOURCES = 20
"""With fewer there is no interval over texts."""


class OverTexts(NamedTuple):
    """The mean difference in nats per token and the half-width of its interval, over sources."""

    mean: float
    half: float


def over_texts(nats: ArrayLike, tokens: ArrayLike, sources: Sequence[int], level: float) -> OverTexts | None:
    """The interval of sum(nats) / sum(tokens) over sources, None with fewer than FEWEST_SOURCES of them.

    `nats` [documents] are summed differences of documents, `tokens` [documents] their lengths; `sources` [documents]
    numbers the sources, and documents of one are drawn together. The variance is the jackknife's, which leaves out one
    source at a time (Tukey 1958; for a weighted mean the sum of (w u / (1 - w))^2, where u is how far a source is from
    the mean and w its share of the tokens), and the quantile is Student's with the effective number of sources
    1 / sum(w^2) less one degrees of freedom (Kish 1965).
    """
    _, cluster = np.unique(np.asarray(sources), return_inverse=True)
    of_sources = np.bincount(cluster, weights=np.asarray(nats, np.float64))
    counts = np.bincount(cluster, weights=np.asarray(tokens, np.float64))
    if len(counts) < FEWEST_SOURCES:
        return None
    share = counts / counts.sum()
    mean = float(of_sources.sum() / counts.sum())
    apart = (of_sources - mean * counts) / counts.sum() / (1 - share)
    degrees = 1 / float((share**2).sum()) - 1
    quantile = float(stdtrit(degrees, (1 + level) / 2))
    return OverTexts(mean, quantile * math.sqrt(float((apart**2).sum())))


class Drawn(NamedTuple):
    """What is drawn together when other text is drawn: the number [windows] of each window's source, or of itself."""

    over: Literal["sources", "windows"]
    numbers: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(np.unique(self.numbers))


def drawn_together(sources: ArrayLike) -> Drawn:
    """The sources [windows] of windows as what is drawn; the windows themselves where the sources are too few.

    An interval over windows of few sources is about more text of these very sources.
    """
    numbers = np.asarray(sources, np.int64)
    if len(np.unique(numbers)) >= FEWEST_SOURCES:
        return Drawn("sources", numbers)
    return Drawn("windows", np.arange(len(numbers)))


def said_of(over: str, measurement: str) -> list[str]:
    """A line where the intervals of a measurement are over windows alone."""
    if over != "windows":
        return []
    return [
        f"Intervals of {measurement} are over windows, as these are of fewer than {FEWEST_SOURCES} sources: they say "
        "nothing of other texts."
    ]


def over_drawn(sums: ArrayLike, weights: ArrayLike, drawn: Drawn, level: float = LEVEL) -> Interval:
    """sum(sums) / sum(weights) of windows with the interval of `over_texts`; without one where too few are drawn.

    `sums` [windows] are of nats, bits or anything that adds up, `weights` [windows] how many each is of.
    """
    total = float(np.sum(weights))
    mean = float(np.sum(sums)) / total if total > 0 else math.nan
    used = np.asarray(weights, np.float64) > 0
    found = over_texts(np.asarray(sums)[used], np.asarray(weights)[used], drawn.numbers[used].tolist(), level)
    if found is None:
        return Interval(mean=mean, low=None, high=None)
    return Interval(mean=mean, low=found.mean - found.half, high=found.mean + found.half)


def crossed(half_over_seeds: float, half_over_texts: float) -> float:
    """The half-width of an interval for other seeds and other texts, both at once.

    Both parts of the variance are added, each with its own quantile; what seeds and texts do together is in both, so
    that it is counted twice and the interval is a little too wide.
    """
    return math.hypot(half_over_seeds, half_over_texts)
