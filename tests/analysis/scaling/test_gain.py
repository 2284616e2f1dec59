"""Compute-equivalent gain: values by hand, where it has no bounds, coverage on simulated ladders."""

import numpy as np
import pytest
from scipy import stats

from assay.analysis.scaling.gain import Reads, gain, gains, log_gains
from assay.analysis.scaling.ladder import Arrays, Cost, Ladder, LogCosts, Rung, Trained
from assay.analysis.scaling.noise import pooled
from assay.analysis.scaling.simulation import Truth, draw

JITTER = (-0.001, 0.0, 0.001)


def trained(loss: float, flops: float, jitter: tuple[float, ...] = JITTER, state_bytes: float = 64.0) -> Trained:
    """One arm whose seeds lie around `loss`."""
    return Trained(
        {seed: loss + off for seed, off in enumerate(jitter)}, Cost(flops=flops, seconds=flops, state_bytes=state_bytes)
    )


def falling(flops: float) -> float:
    """A power law with a floor."""
    return 2.0 + 2.0 * flops**-0.2


def ladder(gain: float, rungs: int = 3, dearer: float = 1.0, other: tuple[float, ...] = (0.001, 0.0, -0.001)) -> Ladder:
    """A candidate worth `gain` times its compute, at `dearer` times the baseline's compute of a rung.

    What a seed does to it is `other`, and changes its sign from rung to rung; to the baseline, JITTER.
    """
    made = []
    for index in range(rungs + 1):
        flops = 2.0**index
        off = other if index % 2 == 0 or other == JITTER else other[::-1]
        candidate = trained(falling(dearer * flops * gain), dearer * flops, off) if index < rungs else None
        made.append(Rung(f"{index}", trained(falling(flops), flops), candidate))
    return Ladder(tuple(made))


@pytest.mark.parametrize("true", [0.8, 1.0, 1.23, 1.9])
@pytest.mark.parametrize("dearer", [1.0, 1.3])
def test_a_known_gain_is_read_off_the_baselines_curve(true: float, dearer: float) -> None:
    found = gains(ladder(true, dearer=dearer))
    assert found is not None
    for of in found:
        assert of.factor == pytest.approx(true, rel=0.01)
        assert of.low is not None
        assert of.high is not None
        assert of.low < true < of.high


def test_every_axis_with_a_cost_that_grows() -> None:
    of = ladder(1.2)
    assert gain(of, 0, "seconds") is not None
    assert gain(of, 0, "parameters") is None  # not measured
    assert gain(of, 0, "state_bytes") is None  # alike on every rung


def test_a_better_loss_than_the_highest_rungs_is_extrapolated() -> None:
    assert gain(ladder(1.3), 2).extrapolated is None  # type: ignore[union-attr]
    assert gain(ladder(2.5), 2).extrapolated == "above"  # type: ignore[union-attr]
    assert gain(ladder(0.5), 0).extrapolated == "below"  # type: ignore[union-attr]
    text = gain(ladder(2.5), 2).text()  # type: ignore[union-attr]
    assert text.endswith("extrapolated")


def test_at_a_rung_with_equal_compute_the_test_is_students_with_pooled_noise() -> None:
    generator = np.random.default_rng(0)
    truth = Truth(rungs=3, seeds=4, gain=1.0)
    arrays = draw(generator, truth, 200)
    of = log_gains(arrays, truth.log_costs(), 1, 0.95)
    difference = arrays.candidate - arrays.baseline[:, :3]
    variances = difference.var(-1, ddof=1)
    single = pooled(arrays.baseline, arrays.candidate).single[:, 1]
    # 3/8 of the variance is the rung's own: of the mean over three rungs that leaves 7.02 of 9 degrees of freedom.
    variance = np.maximum(0.375 * variances[:, 1] + 0.625 * variances.mean(1), 0.8 * single)
    half = stats.t.ppf(0.975, 3 / ((7 / 12) ** 2 + 2 * (5 / 24) ** 2)) * np.sqrt(variance / 4)
    mean = difference[:, 1].mean(-1)
    np.testing.assert_array_equal(of.low > 0, mean < -half)
    np.testing.assert_array_equal(of.high < 0, mean > half)


def test_without_a_slope_there_are_no_bounds() -> None:
    generator = np.random.default_rng(0)
    truth = Truth(rungs=3, seeds=3, exponent=1e-4, noise=0.02)
    of = log_gains(draw(generator, truth, 300), truth.log_costs(), 1, 0.95)
    assert np.mean(np.isinf(of.low) | np.isinf(of.high)) > 0.9
    assert "bounds" in gain(ladder(1e6), 0).text() or "above" in gain(ladder(1e6), 0).text()  # type: ignore[union-attr]


def test_beyond_ten_times_the_rungs_there_is_a_lower_bound_only() -> None:
    of = gain(ladder(1e3), 2)
    assert of is not None
    assert of.factor is None
    assert of.high is None
    assert of.extrapolated == "above"
    assert of.low is not None
    assert of.low > 4


def test_identical_arms_have_a_gain_of_one_and_do_not_pass_it() -> None:
    of = gain(ladder(1.0, other=JITTER), 1)
    assert of is not None
    assert of.low is not None
    assert of.high is not None
    assert of.low <= 1 <= of.high
    assert of.high - of.low < 1e-5


def test_seeds_that_change_nothing_are_no_repetitions() -> None:
    of = gain(ladder(1.2, other=JITTER), 1)
    assert of is not None
    assert of.low is None
    assert of.high is None


def test_an_equal_cost_that_is_not_told_is_in_the_interval_where_the_baseline_hardly_falls() -> None:
    """The nearest equal loss lies far beyond: from there back to the own cost some factors are told and some not."""
    of = Truth(rungs=2, seeds=2, exponent=0.002, noise=0.02)
    arrays = draw(np.random.default_rng(3), of, 2000)
    costs = of.log_costs()
    found = log_gains(arrays, costs, 1, 0.95)
    excess, half = Reads(arrays, costs, 1).with_half(np.broadcast_to(costs.candidate[1:], (2000, 1)), 0.95)
    told = (np.abs(excess) > half)[:, 0]
    assert not ((found.low > 1e-9) & ~told).any()
    assert not ((found.high < -1e-9) & ~told).any()


def test_an_own_cost_off_the_ladder_that_is_not_told_is_no_end() -> None:
    """A state of a hundredth of the bytes: read so far off the ladder the baseline's loss is known to nobody."""
    baseline = np.array([[[1.786, 1.853, 1.805], [1.566, 1.582, 1.541], [1.338, 1.355, 1.345]]])
    candidate = np.array([[[1.724, 1.727, 1.732], [1.487, 1.496, 1.486]]])
    arrays = Arrays(baseline, candidate, np.zeros((1, 3)), np.zeros((1, 2)))
    costs = LogCosts(np.log([81_920.0, 114_688.0, 294_912.0]), np.log([224.0, 448.0]))
    of = log_gains(arrays, costs, 0, 0.95)
    assert np.exp(of.mean) == pytest.approx(406, rel=0.01)
    assert (of.low, np.exp(of.high)) == (-np.inf, pytest.approx(424, rel=0.01))
    top = log_gains(arrays, costs, 1, 0.95)
    assert np.exp([top.low, top.high])[:, 0] == pytest.approx([284, 364], rel=0.01), "told there, it ends on the ladder"


def test_few_seeds_that_fall_alike_by_chance_tell_nothing() -> None:
    arrays = Arrays(
        np.array([[[3.158, 3.176], [3.168, 3.144], [3.142, 3.138]]]),
        np.array([[[3.164, 3.170], [3.140, 3.119]]]),
        np.zeros((1, 3)), np.zeros((1, 2)),
    )  # fmt: skip
    noise = pooled(arrays.baseline, arrays.candidate)
    assert (noise.paired >= 0.8 * noise.single[:, :2]).all()
    of = log_gains(arrays, LogCosts(np.log([1.0, 4.0, 16.0]), np.log([1.0, 4.0])), 1, 0.95)
    assert of.low < 0 < of.high


def test_what_a_ladder_refuses() -> None:
    good = ladder(1.0).rungs
    with pytest.raises(ValueError, match="two or more"):
        Ladder(good[:1])
    with pytest.raises(ValueError, match="may only stand above"):
        Ladder((good[3], *good[:2]))
    with pytest.raises(ValueError, match="same two or more seeds"):
        Ladder((good[0], Rung("x", trained(3.0, 2.0, (0.0, 0.1)))))
    with pytest.raises(ValueError, match="finite number"):
        Ladder((good[0], Rung("x", trained(float("nan"), 2.0))))


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_where_the_curve_bends(shape: str, seeds: int) -> None:
    truth = Truth(rungs=4, seeds=seeds, exponent=0.3, noise=0.004, gain=1.3, shape=shape)  # type: ignore[arg-type]
    of = log_gains(draw(np.random.default_rng(1), truth, 2000), truth.log_costs(), 3, 0.95)
    held = (of.low <= np.log(1.3)) & (np.log(1.3) <= of.high)
    assert held.mean() > 0.935
    assert np.median(of.high - of.low) < 0.03  # no wider than need be
