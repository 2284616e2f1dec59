"""Fieller's interval: where it ends by hand, where it has no ends, and how often it covers."""

import numpy as np
import pytest

from assay.analysis.intervals.ratios import ratio_interval


def test_with_a_known_denominator_it_is_students() -> None:
    above = [1.0, 2.0, 3.0, 4.0]
    got = ratio_interval(above, [2.0] * 4)
    assert got is not None
    half = 3.182446 * np.std(above, ddof=1) / 2 / 2
    assert got == pytest.approx((1.25, 1.25 - half, 1.25 + half), abs=1e-5)


def test_where_it_has_no_ends() -> None:
    assert ratio_interval([1.0, 2.0, 3.0], [-1.0, 1.0, 0.1]) is None
    assert ratio_interval([1.0], [1.0]) is None
    assert ratio_interval([0.0, 1.0], [0.0, 0.0]) is None
    with pytest.raises(ValueError, match="2 numerators"):
        ratio_interval([1.0, 2.0], [1.0])


def test_coverage() -> None:
    generator = np.random.default_rng(0)
    covered, repeats = 0, 2000
    for _ in range(repeats):
        b = generator.normal(2, 1, 12)
        got = ratio_interval((1.5 * b + generator.normal(0, 1, 12)).tolist(), b.tolist())
        covered += got is None or got.low <= 1.5 <= got.high
    assert abs(covered / repeats - 0.95) < 3 * np.sqrt(0.95 * 0.05 / repeats)
