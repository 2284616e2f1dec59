"""A power law with a floor: found where rungs show it, refused where they do not, and never far beyond them."""

import numpy as np
import pytest

from assay.analysis.scaling.ladder import Cost, Ladder, Rung, Trained
from assay.analysis.scaling.power_law import power_law


def ladder(
    noise: float, rungs: int = 5, step: float = 4.0, b: float = 0.25, seed: int = 0, bent: float = 0.0
) -> Ladder:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(rungs):
        flops = step**index
        loss = 2.0 + 3.0 * flops**-b + bent * (index == rungs - 1)
        arms = [
            Trained({s: loss + noise * generator.standard_normal() for s in range(4)}, Cost(flops=flops))
            for _ in range(2)
        ]
        made.append(Rung(str(index), *arms))
    return Ladder(tuple(made))


def test_a_law_without_noise_is_found() -> None:
    of = power_law(ladder(1e-4))
    assert of is not None
    assert of.told
    assert of.fits
    assert of.exponent.value == pytest.approx(0.25, rel=0.02)
    assert of.floor.value == pytest.approx(2.0, abs=0.02)
    assert of.exponent.low < of.exponent.value < of.exponent.high
    assert of.predict(10 * 4.0**4).value == pytest.approx(2 + 3 * (10 * 4.0**4) ** -0.25, abs=0.005)
    assert of.back_test is not None
    assert of.back_test.held
    assert "b 0.2" in of.text()


def test_noise_hides_the_exponent_behind_the_floor() -> None:
    of = power_law(ladder(0.03, rungs=4, step=2.0, b=0.1))
    assert of is not None
    assert not of.told
    assert "do not tell" in of.text()


def test_a_top_rung_off_the_law_fails_the_back_test() -> None:
    of = power_law(ladder(0.001, bent=0.1))
    assert of is not None
    assert not of.fits
    assert of.back_test is not None
    assert not of.back_test.held


def test_ten_times_the_largest_rung_at_most() -> None:
    of = power_law(ladder(0.001))
    assert of is not None
    with pytest.raises(ValueError, match="predictions go from"):
        of.predict(11 * 4.0**4)
    with pytest.raises(ValueError, match="predictions go from"):
        of.predict(0.5)


def test_four_rungs_and_a_cost() -> None:
    assert power_law(ladder(0.001, rungs=3)) is None
    assert power_law(ladder(0.001), axis="tokens") is None
    four = power_law(ladder(0.001, rungs=4))
    assert four is not None
    assert four.back_test is None


def test_intervals_cover() -> None:
    repeats, held = 200, np.zeros(2)
    for seed in range(repeats):
        of = power_law(ladder(0.004, seed=seed))
        assert of is not None
        ahead, true = of.predict(5 * 4.0**4), 2 + 3 * (5 * 4.0**4) ** -0.25
        held += [of.exponent.low <= 0.25 <= of.exponent.high, ahead.low <= true <= ahead.high]
    assert (held / repeats >= 0.91).all()  # 95%, less 2.6 standard deviations of 200 draws
