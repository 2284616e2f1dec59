"""Exponents of known powers, their interval against numpy's own fit, and crossings of known curves."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.analysis.growth import crossover, crossovers, fit_growth
from assay.records.inference import ArmInference, AtContext, Timing

CONTEXTS = (256, 512, 1024, 2048, 4096, 8192)


def near(seconds: float, spread: float = 0.01) -> Timing:
    return Timing(median=seconds, low=seconds * (1 - spread), high=seconds * (1 + spread), repeats=5)


def costs(power: float, factor: float = 1.0) -> dict[int, Timing]:
    return {context: near(factor * context**power) for context in CONTEXTS}


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_a_power_law_gives_its_exponent(power: float) -> None:
    growth = fit_growth({context: 3 * context**power for context in CONTEXTS})
    assert growth is not None
    assert growth.low is not None
    assert growth.high is not None
    assert growth.exponent == pytest.approx(power, abs=1e-12)
    assert (growth.low, growth.high) == pytest.approx((power, power), abs=1e-6)
    assert (growth.contexts, growth.last_doubling) == (6, pytest.approx(power))


def test_the_interval_is_that_of_a_regression_on_logarithms() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, len(CONTEXTS))
    values = {context: context**1.3 * math.exp(e) for context, e in zip(CONTEXTS, noise, strict=True)}
    theirs = stats.linregress(np.log(list(values)), np.log(list(values.values())))
    growth = fit_growth(values)
    assert growth is not None
    assert growth.low is not None
    assert growth.exponent == pytest.approx(theirs.slope)
    assert growth.exponent - growth.low == pytest.approx(theirs.stderr * stats.t.ppf(0.975, 4))


def test_a_cost_that_bends_ends_steeper_than_its_exponent() -> None:
    growth = fit_growth({context: 1000 * context + context**2 for context in CONTEXTS})
    assert growth is not None
    assert growth.high is not None
    assert 1 < growth.exponent < growth.last_doubling < 2
    assert growth.high - growth.exponent > 0.05


def test_too_few_contexts_have_no_interval_or_no_exponent() -> None:
    assert fit_growth({256: 1.0}) is None
    assert fit_growth({256: 0.0, 512: 1.0}) is None
    two = fit_growth({256: 1.0, 512: 2.0})
    assert two is not None
    assert (two.exponent, two.low, two.high) == (pytest.approx(1.0), None, None)


def test_curves_cross_where_they_are_equal() -> None:
    crossing = crossover("prefill", ("square", "line"), costs(2), costs(1, factor=1500))
    assert crossing is not None
    assert (crossing.less_at_first, crossing.less_at_last) == ("square", "line")
    assert crossing.context == pytest.approx(1500)
    assert crossing.low is not None
    assert crossing.high is not None
    assert crossing.low < 1500 < crossing.high


def test_a_crossing_is_certain_to_within_what_the_ranges_leave_open() -> None:
    """Ranges of a factor r about x^2 and 1500 x touch where x r = 1500 / r, and part where x / r = 1500 r."""
    wide = 1.3

    def ranged(power: float, factor: float = 1.0) -> dict[int, Timing]:
        of = {context: factor * float(context) ** power for context in CONTEXTS}
        return {at: Timing(median=c, low=c / wide, high=c * wide, repeats=5) for at, c in of.items()}

    for arms, costs_of_both in (
        (("square", "line"), (ranged(2), ranged(1, 1500))),
        (("line", "square"), (ranged(1, 1500), ranged(2))),
    ):
        crossing = crossover("prefill", arms, *costs_of_both)
        assert crossing is not None
        assert (crossing.less_at_first, crossing.less_at_last) == ("square", "line")
        found = (crossing.low, crossing.context, crossing.high)
        assert found == pytest.approx((1500 / wide**2, 1500, 1500 * wide**2))


def test_arms_that_cannot_be_told_apart_at_an_end_do_not_cross() -> None:
    crossing = crossover("prefill", ("a", "b"), costs(1), costs(1, factor=1.001))
    assert crossing is not None
    assert (crossing.less_at_first, crossing.less_at_last, crossing.context) == (None, None, None)
    throughout = crossover("prefill", ("a", "b"), costs(1), costs(1, factor=2))
    assert throughout is not None
    assert (throughout.less_at_first, throughout.less_at_last, throughout.context) == ("a", "a", None)


def test_only_contexts_that_both_were_measured_at_are_compared() -> None:
    short = {context: near(float(context)) for context in CONTEXTS[:2]}
    crossing = crossover("step", ("a", "b"), short, costs(2))
    assert crossing is not None
    assert crossing.contexts == (256, 512)
    assert crossover("step", ("a", "b"), {256: near(1.0)}, costs(2)) is None


def test_every_pair_and_quantity_that_can_be_compared_is() -> None:
    def arm(power: float) -> ArmInference:
        points = [
            AtContext(context=context, prefill=near(float(context**power)), step=None, working_bytes=context * 10)
            for context in CONTEXTS
        ]
        return ArmInference(
            prefill=None, generation=None, training_step=None, weight_bytes=1, peak_bytes=None, contexts=points,
            time_growth=None, step_growth=None, memory_growth=None,
        )  # fmt: skip

    found = list(crossovers({"a": arm(1), "b": arm(2), "c": arm(3)}))
    assert [(each.quantity, each.arms) for each in found] == [
        (quantity, pair) for quantity in ("prefill", "memory") for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert {each.less_at_last for each in found if each.quantity == "memory"} == {None}, "equal bytes"
