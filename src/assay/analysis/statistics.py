"""What seeds and documents can and cannot tell: t intervals, paired tests, Holm's step-down, a bootstrap.

The formulas, their sources and how each can mislead are in docs/statistics.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from assay.records import Interval
from assay.seeding import derive

LEVEL = 0.95
"""Of intervals where nothing else is asked for."""

ALPHA = 0.05
"""The share of false alarms that a family of pairs may have."""
MOST_FURTHER_SEEDS = 1000
DRAWN_AT_ONCE = 1_000_000
"""Documents drawn in one step of the bootstrap: some 30 MB."""


class PairedDifference(NamedTuple):
    """Mean of a - b over seeds, its t interval and the two-sided p; None where the seeds cannot tell."""

    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and Student t interval with n - 1 degrees of freedom (Student 1908); no interval for n < 2."""
    mean, half = _mean_and_half_width(np.asarray(values, dtype=np.float64), level)
    return Interval(mean=mean, low=None, high=None) if half is None else _interval(mean, half)


def perplexity_interval(nats: Sequence[float], level: float = LEVEL) -> Interval:
    """exp of the mean nats and of the ends of their interval: the geometric mean of the perplexities."""
    over_nats = mean_interval(nats, level)
    low, high = over_nats.low, over_nats.high
    return Interval(
        mean=_exp(over_nats.mean),
        low=None if low is None else _exp(low),
        high=None if high is None else _exp(high),
    )


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> PairedDifference:
    """Paired t over seeds (Student 1908): the differences a_s - b_s are one sample.

    Differences without any spread need a decision, as t is then 0/0 or infinite. All zero: the arms are the same
    and p = 1. All equal and not zero: continuous scores do that only where the seeds change nothing, so they are
    no independent repetitions, and neither an interval nor a p is given.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"a paired difference needs as many values of a ({first.size}) as of b ({second.size})")
    differences = first - second
    mean, half = _mean_and_half_width(differences, level)
    if half is None:
        return PairedDifference(mean, None, None, None)
    rounding = 4 * np.finfo(np.float64).eps * float(np.abs([first, second]).max())
    if float(np.ptp(differences)) <= rounding:
        return PairedDifference(0.0, 0.0, 0.0, 1.0) if abs(mean) <= rounding else PairedDifference(mean, *(None,) * 3)
    error = differences.std(ddof=1) / math.sqrt(differences.size)
    p_value = 2 * float(stdtr(differences.size - 1, -abs(mean) / error))
    return PairedDifference(mean, mean - half, mean + half, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p by Holm's step-down (Holm 1979): the largest (m - i) p of this and of all smaller ones, at most 1."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, index in enumerate(_ascending(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """The confidence level of the step that decided each pair, in the order given.

    Step i tests at alpha / (m - i). Where it fails, Holm stops, and all that remain are undecided at that level. A t
    interval of this level excludes zero exactly where Holm's adjusted p is below `alpha`.
    """
    levels = [0.0] * len(p_values)
    stopped: float | None = None
    for step, index in enumerate(_ascending(p_values)):
        at = stopped or alpha / (len(p_values) - step)
        if p_values[index] >= at:
            stopped = at
        levels[index] = 1 - at
    return levels


def seeds_to_resolve(differences: Sequence[float], level: float = LEVEL) -> int | None:
    """The fewest further seeds with which this mean and this spread would exclude zero at `level`.

    None where no number up to MOST_FURTHER_SEEDS does, or where there is no spread to extrapolate.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or float(np.ptp(values)) == 0.0:
        return None
    standardised = abs(float(values.mean())) / float(values.std(ddof=1))
    for further in range(1, MOST_FURTHER_SEEDS + 1):
        n = values.size + further
        if standardised * math.sqrt(n) > _t_quantile(n - 1, level):
            return further
    return None


def bootstrap_over_documents(
    nats_a: ArrayLike, nats_b: ArrayLike, tokens: ArrayLike, seed: int, resamples: int = 2000, level: float = LEVEL
) -> tuple[float, float] | None:
    """Percentile interval of the difference a - b in nats per token, over documents drawn with replacement.

    `nats_a`, `nats_b` [seeds, documents]: summed nats of a document; seeds are averaged first, so what varies is the
    text alone. `tokens` [documents]. One draw takes the same documents for both arms, and its value is the sum of
    the nats over the sum of the tokens (Efron 1979). None with fewer than two documents.
    """
    counts = np.asarray(tokens, dtype=np.float64)
    differences = np.asarray(nats_a, np.float64).mean(axis=0) - np.asarray(nats_b, np.float64).mean(axis=0)
    if differences.shape != counts.shape:
        raise ValueError(f"nats of {differences.shape} documents, but tokens of {counts.shape}")
    if counts.size < 2:
        return None
    generator = np.random.default_rng(derive(seed, "bootstrap"))
    ratios: list[float] = []
    while len(ratios) < resamples:
        draws = min(resamples - len(ratios), max(1, DRAWN_AT_ONCE // counts.size))
        chosen = generator.integers(counts.size, size=(draws, counts.size))
        ratios += (differences[chosen].sum(axis=1) / counts[chosen].sum(axis=1)).tolist()
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _mean_and_half_width(values: np.ndarray, level: float) -> tuple[float, float | None]:
    if values.size == 0:
        raise ValueError("an interval of no values")
    if values.size == 1:
        return float(values[0]), None
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    return float(values.mean()), error * _t_quantile(values.size - 1, level)


def _t_quantile(degrees: int, level: float) -> float:
    return float(stdtrit(degrees, (1 + level) / 2))


def _interval(mean: float, half: float) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half)


def _ascending(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda index: p_values[index])


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
