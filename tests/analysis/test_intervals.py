"""Intervals of pairs: errors against a second way to compute them, levels and power against small simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from assay.analysis.intervals.calibration import WIDEST, Family, adjusted_p, critical_values, largest_ratio
from assay.analysis.intervals.outlying import stands_apart
from assay.analysis.intervals.paired import MOST_BORROWED, differences
from assay.analysis.intervals.power import detectable_effect, seed_range, seeds_for
from assay.analysis.intervals.texts import FEWEST_SOURCES, crossed, over_texts

REPEATS = 8000
FOUR_ERRORS = 4 * math.sqrt(0.05 * 0.95 / REPEATS)
"""Of a share of 5% of so many repeats."""


def generator(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("k", "n"), [(2, 2), (3, 3), (5, 4), (4, 12)])
def test_errors_are_those_of_the_formula(k: int, n: int) -> None:
    scores = generator().normal(4, 0.1, (2, k, n)) * np.array([1, 9, 1, 1, 1])[:k, None]
    found = differences(scores)
    for repeat in range(2):
        own = {
            (a, b): np.var(scores[repeat, a] - scores[repeat, b], ddof=1) for a in range(k) for b in range(k) if a != b
        }
        mean = np.mean(list(own.values()))
        for (a, b), variance in own.items():
            expected = math.sqrt((variance / 2 + min(mean, MOST_BORROWED * variance) / 2) / n)
            assert found.error[repeat, a, b] == pytest.approx(expected, rel=1e-9)
            assert found.mean[repeat, a, b] == pytest.approx((scores[repeat, a] - scores[repeat, b]).mean(), abs=1e-12)


def test_what_a_seed_does_to_all_arms_changes_nothing() -> None:
    scores = generator().normal(0, 1, (1, 3, 5))
    moved = scores + 1000 * np.arange(5)
    assert differences(moved).error == pytest.approx(differences(scores).error, rel=1e-9)
    with pytest.raises(ValueError, match="two arms and two seeds"):
        differences(scores[:, :1])


def test_two_arms_are_students_paired_t() -> None:
    """With one pair there is nothing to borrow; the calibration may add a little for shapes other than the normal."""
    for n in (3, 5, 10):
        (value,) = critical_values(Family((2,), False, (n,)), 0.95)
        exact = stats.t.ppf(0.975, n - 1)
        assert exact * 0.98 < value < exact * 1.08
        p = adjusted_p(Family((2,), False, (n,)), 0.95, exact)
        assert p is not None
        assert 0.047 < p < 0.062


SHAPES = {
    "normal": lambda g, size: g.standard_normal(size),
    "uniform": lambda g, size: g.random(size),
    "exponential": lambda g, size: g.exponential(size=size),
    "bad seeds": lambda g, size: g.standard_normal(size) + 8 * (g.random(size) < 0.15),
    "two plateaus": lambda g, size: 0.01 * g.standard_normal(size) + (g.random(size) < 0.5),
    "one arm threefold": lambda g, size: g.standard_normal(size) * np.where(np.arange(size[1]) < 1, WIDEST, 1)[:, None],
    "between": lambda g, size: g.standard_normal(size) * g.uniform(1, WIDEST, (*size[:2], 1)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("k", "n"), [(2, 5), (3, 5), (4, 6), (6, 5)])
def test_false_alarms_are_as_rare_as_promised(k: int, n: int, shape: str) -> None:
    """In all pairs together, for arms alike in any shape of noise and for normal noise that differs threefold."""
    family = Family((k,), False, (n,))
    assert family.in_any_shape(0.95)
    scores = SHAPES[shape](generator(), (REPEATS, k, n))
    (value,) = critical_values(family, 0.95)
    assert (largest_ratio(scores, False) > value).mean() <= 0.05 + FOUR_ERRORS


def test_the_simulation_notices_errors_that_are_too_small() -> None:
    """A counter-example: Student's quantile for one pair, used for each of six."""
    scores = generator().standard_normal((REPEATS, 4, 5))
    assert (largest_ratio(scores, False) > stats.t.ppf(0.975, 4)).mean() > 0.05 + FOUR_ERRORS


def test_sizes_and_a_baseline_count_their_pairs() -> None:
    assert Family((3, 4), False, (5,)).pairs == 9
    assert Family((3, 4), True, (5,)).pairs == 5
    values = [
        critical_values(Family(arms, base, (5,)), 0.95)[0]
        for arms, base in (((4,), True), ((4,), False), ((4, 4), False))
    ]
    assert values == sorted(values)
    one, two = (generator(seed).standard_normal((REPEATS, 4, 5)) for seed in (1, 2))
    passed = (largest_ratio(one, False) > values[2]) | (largest_ratio(two, False) > values[2])
    assert passed.mean() <= 0.05 + FOUR_ERRORS


@pytest.mark.parametrize("plan", [(3, 5, 8), (5, 10)])
def test_planned_looks_raise_no_more_false_alarms(plan: tuple[int, ...]) -> None:
    family = Family((3,), False, plan)
    values = critical_values(family, 0.95)
    assert list(values) == sorted(values, reverse=True), "less is spent on the first look"
    assert values[-1] > critical_values(Family((3,), False, plan[-1:]), 0.95)[0]
    for shape in ("normal", "one arm threefold"):
        scores = SHAPES[shape](generator(), (REPEATS, 3, plan[-1]))
        ratios = np.stack([largest_ratio(scores[..., :n], False) for n in plan], 1)
        assert (ratios > values).any(1).mean() <= 0.05 + FOUR_ERRORS
    naive = [critical_values(Family((3,), False, (n,)), 0.95)[0] for n in plan]
    scores = generator().standard_normal((REPEATS, 3, plan[-1]))
    ratios = np.stack([largest_ratio(scores[..., :n], False) for n in plan], 1)
    assert (ratios > naive).any(1).mean() > 0.06, "looking without a plan does"
    assert adjusted_p(family, 0.95, 3.0) is None


def test_values_are_the_same_every_time_and_follow_the_level() -> None:
    family = Family((3,), False, (4,))
    values = [critical_values(family, level)[0] for level in (0.8, 0.95, 0.99)]
    assert values == sorted(values)
    critical_values.__globals__["null_draws"].cache_clear()
    critical_values.__globals__["_critical_values"].cache_clear()
    assert values == [critical_values(family, level)[0] for level in (0.8, 0.95, 0.99)]


def test_few_seeds_are_not_promised_in_any_shape() -> None:
    able = [
        (k, n) for k, n in itertools.product(range(2, 9), range(2, 9)) if Family((k,), False, (n,)).in_any_shape(0.95)
    ]
    assert {n: max(k for k, m in able if m == n) for n in {n for _, n in able}} == {3: 2, 4: 3, 5: 6, 6: 8, 7: 8, 8: 8}


def test_the_detectable_effect_is_resolved_as_often_as_said() -> None:
    (value,) = critical_values(Family((3,), False, (5,)), 0.95)
    effect = detectable_effect(value, 3, 5, 0.8)
    scores = generator().standard_normal((REPEATS, 3, 5))
    scores[:, 1] += effect * math.sqrt(2)
    found = differences(scores)
    resolved = np.abs(found.mean[:, 0, 1]) > value * found.error[:, 0, 1]
    assert resolved.mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / REPEATS))


@pytest.mark.parametrize(("effect", "most"), [(3.0, 5), (1.0, 20), (0.4, 90)])
def test_so_many_seeds_resolve_an_effect_as_often_as_asked(effect: float, most: int) -> None:
    n = seeds_for(effect, (3,), False, 0.95, 0.8)
    assert 3 <= n <= most
    (value,) = critical_values(Family((3,), False, (n,)), 0.95, 4000)
    scores = generator().standard_normal((3000, 3, n))
    scores[:, 0] += effect * math.sqrt(2)
    found = differences(scores)
    power = (found.mean[:, 0, 1] > value * found.error[:, 0, 1]).mean()
    assert power > 0.74
    assert power < 0.88 or n == 3 or effect > 2, "between two whole numbers of seeds power jumps where they are few"


def test_a_range_of_seeds_widens_with_what_is_not_known_of_the_noise() -> None:
    few, many = (seed_range(0.5, 1.0, n, (3,), False, 0.95, 0.8) for n in (3, 20))
    asked = seeds_for(0.5, (3,), False, 0.95, 0.8)
    assert few.low < many.low < asked < many.high < few.high
    with pytest.raises(ValueError, match="effect of 0"):
        seeds_for(0.0, (3,), False, 0.95, 0.8)


def test_over_texts_is_a_t_interval_where_sources_are_of_one_length() -> None:
    values = generator().normal(0.2, 1.0, 40)
    found = over_texts(values * 10, np.full(40, 10), range(40), 0.95)
    assert found is not None
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.half == pytest.approx((high - low) / 2 * math.sqrt(40 / 39), rel=1e-9), "the jackknife's n / (n - 1)"


def test_documents_of_one_source_are_drawn_together_and_few_sources_give_nothing() -> None:
    of_sources = generator().normal(0, 1, 30)
    nats, tokens = np.repeat(of_sources, 10), np.ones(300)
    together = over_texts(nats, tokens, np.repeat(np.arange(30), 10).tolist(), 0.95)
    apart = over_texts(nats, tokens, range(300), 0.95)
    assert together is not None
    assert apart is not None
    assert together.half > 2.5 * apart.half, "ten copies of a document are no ten documents"
    assert over_texts(nats, tokens, [index % (FEWEST_SOURCES - 1) for index in range(300)], 0.95) is None


@pytest.mark.parametrize("sigma", [0.0, 1.0, 1.5])
def test_over_texts_covers_the_population(sigma: float) -> None:
    """Also where a few sources hold most of the text."""
    g, held = generator(), []
    for _ in range(2000):
        tokens = np.exp(sigma * g.standard_normal(20)) * 500
        found = over_texts(g.standard_normal(20) * tokens, tokens, range(20), 0.95)
        assert found is not None
        held.append(abs(found.mean) <= found.half)
    assert np.mean(held) >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)


def test_crossed_holds_other_seeds_and_other_texts() -> None:
    g, held, over_seeds = generator(), 0, 0
    (value,) = critical_values(Family((2,), False, (5,)), 0.95)
    for _ in range(1500):
        texts, seeds, both = g.normal(0, 0.1, 50), g.normal(0, 0.02, (2, 5, 1)), g.normal(0, 0.1, (2, 5, 50))
        nats = seeds + both
        nats[0] += texts
        error = float(differences(nats.mean(-1)[None]).error[0, 0, 1])
        found = over_texts((nats[0] - nats[1]).mean(0), np.ones(50), range(50), 0.95)
        assert found is not None
        held += abs(found.mean) <= crossed(value * error, found.half)
        over_seeds += abs(found.mean) <= value * error
    assert held / 1500 >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 1500)
    assert over_seeds / 1500 < 0.9, "the interval over seeds alone does not"


def test_a_seed_apart_is_found_and_noise_is_not_named() -> None:
    g = generator()
    named = [stands_apart(g.standard_normal((3, 5))) for _ in range(2000)]
    assert sum(found is not None for found in named) <= 2000 * 0.01 + 4 * math.sqrt(2000 * 0.01)
    scores = g.standard_normal((3, 5)) + np.arange(5)
    scores[1, 3] += 30
    found = stands_apart(scores)
    assert found is not None
    assert (found.arm, found.seed) == (1, 3)
    assert found.above == pytest.approx(30, abs=4)
    assert stands_apart(np.ones((3, 5)) + np.arange(5)) is None
    assert stands_apart(scores[:1]) is None
    assert stands_apart(scores[:, :2]) is None
