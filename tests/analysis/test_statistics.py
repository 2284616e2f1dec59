"""Intervals and tests against scipy, Holm against a table done by hand, coverage against a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.analysis.statistics import (
    MOST_FURTHER_SEEDS,
    bootstrap_over_documents,
    holm,
    holm_levels,
    mean_interval,
    paired_difference,
    perplexity_interval,
    seeds_to_resolve,
)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_mean_interval_is_scipys(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(4.2, 0.3, n)
    low, high = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    found = mean_interval(values.tolist(), level)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-9)


def test_one_value_has_no_interval_and_none_is_an_error() -> None:
    assert mean_interval([3.0]).model_dump() == {"mean": 3.0, "low": None, "high": None}
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """With three seeds the normal quantile covers 0.85 of the time; four standard errors tell the two apart."""
    samples = np.random.default_rng(5).normal(1.0, 0.1, (4000, 3))
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    covered = np.mean([found.low < 1.0 < found.high for found in intervals if found.low and found.high])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
    normal_halves = 1.96 * stats.sem(samples, axis=1)
    assert np.mean(np.abs(samples.mean(axis=1) - 1.0) < normal_halves) < 0.9


def test_perplexity_interval_is_that_of_the_nats_exponentiated() -> None:
    nats = [4.1, 4.3, 4.15]
    over_nats, found = mean_interval(nats), perplexity_interval(nats)
    assert found.mean == pytest.approx(math.prod(map(math.exp, nats)) ** (1 / 3))
    assert over_nats.low is not None
    assert over_nats.high is not None
    assert (found.low, found.high) == pytest.approx((math.exp(over_nats.low), math.exp(over_nats.high)))
    assert perplexity_interval([1000.0]).mean == math.inf


@pytest.mark.parametrize("n", [2, 3, 8])
def test_paired_difference_is_scipys(n: int) -> None:
    generator = np.random.default_rng(n)
    a, b = generator.normal(4.0, 0.1, n), generator.normal(4.1, 0.1, n)
    oracle = stats.ttest_rel(a, b)
    low, high = oracle.confidence_interval(0.98)
    assert paired_difference(a.tolist(), b.tolist(), 0.98) == pytest.approx((np.mean(a - b), low, high, oracle.pvalue))


def test_differences_without_spread_are_decided_on_purpose() -> None:
    same = [4.1, 4.3, 4.2]
    assert paired_difference(same, same) == (0.0, 0.0, 0.0, 1.0)
    shifted = paired_difference(same, [value + 0.1 for value in same])  # equal up to rounding
    assert shifted.mean == pytest.approx(-0.1)
    assert shifted[1:] == (None, None, None)
    assert paired_difference([4.0], [4.5]) == (-0.5, None, None, None)
    assert paired_difference([1.0, 2.0], [2.0, 1.0]).p_value == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"\(2\).*\(3\)"):
        paired_difference([1.0, 2.0], same)


def test_holm_by_hand() -> None:
    # sorted 0.005 x 4 = 0.02; 0.01 x 3 = 0.03; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, raised to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    # 0.005 at 0.05/4, 0.01 at 0.05/3, 0.03 fails at 0.05/2, and 0.04 is left at that level
    assert holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([1 - 0.05 / 3, 0.975, 0.975, 0.9875])


def test_interval_at_holms_level_excludes_zero_exactly_where_holm_decides() -> None:
    generator = np.random.default_rng(11)
    decided = 0
    for _ in range(200):
        arms = generator.normal(generator.choice([0, 0.1, 0.3], size=(4, 1)), 0.08, (4, 3))
        pairs = [(arms[i].tolist(), arms[j].tolist()) for i in range(4) for j in range(i)]
        p_values = [paired_difference(a, b).p_value or 0.0 for a, b in pairs]
        for (a, b), adjusted, level in zip(pairs, holm(p_values), holm_levels(p_values), strict=True):
            found = paired_difference(a, b, level)
            assert found.low is not None
            assert found.high is not None
            assert (adjusted < 0.05) == (found.low > 0 or found.high < 0)
            decided += adjusted < 0.05
    assert 50 < decided < 1150, "both outcomes must occur for the test to mean anything"


def test_seeds_to_resolve_is_the_smallest_number_that_does() -> None:
    differences, level = [0.02, -0.01, 0.03], 0.98
    further = seeds_to_resolve(differences, level)
    assert further is not None

    def p_value(n: int) -> float:
        t = np.mean(differences) / np.std(differences, ddof=1) * math.sqrt(n)
        return float(2 * stats.t.sf(t, n - 1))

    assert p_value(3 + further) < 0.02 <= p_value(3 + further - 1)


def test_seeds_to_resolve_says_when_no_number_would_do() -> None:
    assert seeds_to_resolve([0.5]) is None
    assert seeds_to_resolve([0.1, 0.1, 0.1]) is None
    assert seeds_to_resolve([1.0, -1.0]) is None
    assert seeds_to_resolve([0.001 + 1, 0.001 - 1, 0.001]) is None, f"needs more than {MOST_FURTHER_SEEDS}"


def test_bootstrap_agrees_with_the_normal_theory_of_equal_documents() -> None:
    generator = np.random.default_rng(3)
    differences = generator.normal(0.5, 2.0, 400)
    found = bootstrap_over_documents([differences + 70], [np.full(400, 70.0)], np.full(400, 10), seed=0)
    assert found is not None
    half = 1.96 * differences.std() / math.sqrt(400) / 10
    assert found == pytest.approx((differences.mean() / 10 - half, differences.mean() / 10 + half), abs=0.15 * half)


def test_bootstrap_draws_the_same_documents_for_both_arms() -> None:
    tokens = np.array([10, 1000, 50, 400])
    nats = tokens * np.array([2.0, 9.0, 1.0, 5.0])
    found = bootstrap_over_documents([nats + 0.25 * tokens], [nats], tokens, seed=0)
    assert found == pytest.approx((0.25, 0.25)), "documents differ by a factor of 9, but not between the arms"


def test_bootstrap_averages_seeds_weighs_documents_by_tokens_and_repeats_itself() -> None:
    tokens = np.array([100, 1] * 50)
    a = [0.3 * tokens, 0.1 * tokens + np.where(tokens == 1, 5.0, 0.0)]
    found = bootstrap_over_documents(a, [0 * tokens, 0 * tokens], tokens, seed=1)
    assert found is not None
    middle = (0.2 * tokens.sum() + 2.5 * 50) / tokens.sum()
    assert found[0] < middle < found[1] < 0.4, "a mean over documents instead of tokens would give 1.45"
    assert found == bootstrap_over_documents(a, [0 * tokens, 0 * tokens], tokens, seed=1)
    assert found != bootstrap_over_documents(a, [0 * tokens, 0 * tokens], tokens, seed=2)


def test_bootstrap_needs_two_documents_and_matching_counts() -> None:
    assert bootstrap_over_documents([[1.0]], [[2.0]], [10], seed=0) is None
    with pytest.raises(ValueError, match="documents"):
        bootstrap_over_documents([[1.0, 2.0]], [[2.0, 3.0]], [10], seed=0)
