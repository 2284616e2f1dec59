"""The jackknife's interval: Student's where nothing is skewed, and how often it holds a ratio of skewed draws."""

import numpy as np
import pytest
from scipy.special import stdtrit

from assay.analysis.intervals.jackknife import jackknife_interval


def without_each(values: np.ndarray) -> np.ndarray:
    """The mean with each value left out."""
    return (values.sum() - values) / (len(values) - 1)


def test_of_a_mean_of_symmetric_values_it_is_students() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    half = stdtrit(4, 0.975) * values.std(ddof=1) / np.sqrt(5)
    got = jackknife_interval(3.0, without_each(values).tolist())
    assert got == pytest.approx((3 - half, 3 + half))
    assert jackknife_interval(2.0, [2.0, 2.0]) == (2.0, 2.0)


def test_it_reaches_further_to_where_the_draws_do() -> None:
    values = np.array([1.0, 1.1, 1.2, 1.3, 4.0])
    low, high = jackknife_interval(values.mean(), without_each(values).tolist())
    assert high - values.mean() > values.mean() - low > 0
    mirrored = jackknife_interval(-values.mean(), (-without_each(values)).tolist())
    assert mirrored == pytest.approx((-high, -low))


def test_one_unit_has_no_interval() -> None:
    with pytest.raises(ValueError, match="not 1"):
        jackknife_interval(1.0, [1.0])


def test_coverage_of_skewed_draws() -> None:
    """Eight exponential draws: Student's interval of their mean holds the truth too seldom, this one more often."""
    generator = np.random.default_rng(0)
    repeats, n = 4000, 8
    student = corrected = 0
    for values in generator.exponential(1.0, (repeats, n)):
        half = stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n)
        student += abs(values.mean() - 1) <= half
        low, high = jackknife_interval(values.mean(), without_each(values).tolist())
        corrected += low <= 1 <= high
    assert student / repeats < 0.91
    assert corrected / repeats > student / repeats + 0.02
