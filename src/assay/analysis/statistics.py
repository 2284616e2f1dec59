"""Intervals of single arms: Student's t over seeds.

The formulas, their sources and how each can mislead are in docs/statistics.md.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from assay.records import Interval

LEVEL = 0.95
"""Of intervals where nothing else is asked for."""


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


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
