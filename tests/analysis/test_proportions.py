"""Intervals of shares: against scipy's exact test, at their ends, and by simulation with several answers a sequence."""

import numpy as np
import pytest
from scipy.stats import binomtest

from assay.analysis.intervals.proportions import clopper_pearson, share_interval


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (197, 200), (1, 2000)])
def test_single_answers_have_the_exact_interval(right: int, n: int) -> None:
    exact = binomtest(right, n).proportion_ci(method="exact")
    got = clopper_pearson(right, n)
    assert (got.mean, got.low, got.high) == pytest.approx((right / n, exact.low, exact.high), abs=1e-9)
    alone = share_interval([1] * right + [0] * (n - right), [1] * n)
    assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_copies_of_one_answer_count_once() -> None:
    """Where all answers of a sequence are alike, four of them say no more than one."""
    right = np.array([4] * 60 + [0] * 40)
    four, one = share_interval(right.tolist(), [4] * 100), share_interval((right // 4).tolist(), [1] * 100)
    assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=0.01)


def test_all_right_is_no_proof() -> None:
    got = share_interval([8] * 50, [8] * 50)
    assert got.high == 1.0
    assert got.low == pytest.approx(0.025 ** (1 / 50))


@pytest.mark.parametrize(
    ("sequences", "answers", "share", "alike"),
    [(50, 4, 0.5, 0.2), (200, 4, 0.99, 0.8), (500, 8, 0.998, 0.2), (64, 16, 0.99, 0.2), (1000, 2, 0.9, 0.0)],
)
def test_coverage(sequences: int, answers: int, share: float, alike: float) -> None:
    """Each sequence has a chance of its own (a beta distribution); 800 repeats, of which 94% less chance must cover."""
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(800):
        spread = (1 - alike) / alike if alike else np.inf
        own = generator.beta(share * spread, (1 - share) * spread, sequences) if alike else np.full(sequences, share)
        got = share_interval(generator.binomial(answers, own).tolist(), [answers] * sequences)
        covered += got.low <= share <= got.high
    assert covered / 800 >= 0.94 - 2.5 * np.sqrt(0.94 * 0.06 / 800)


@pytest.mark.parametrize(("right", "answers"), [([], []), ([2], [1]), ([0], [0]), ([-1], [3])])
def test_what_is_no_share(right: list[int], answers: list[int]) -> None:
    with pytest.raises(ValueError, match="share"):
        share_interval(right, answers)
