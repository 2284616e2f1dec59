"""A learning rate read off a parabola: exact where there is no noise, and honest about what it loses where there is."""

import numpy as np
import pytest

from assay.analysis.scaling.simulated_tuning import Response
from assay.analysis.scaling.simulation import Truth, draw
from assay.analysis.scaling.tuning import choose, expected_variance, variance_of_sum

RATES = [0.001, 0.002, 0.004, 0.008, 0.016]


def parabola(best: float) -> list[float]:
    return [4 + 0.05 * np.log(rate / best) ** 2 for rate in RATES]


@pytest.mark.parametrize("best", [0.0025, 0.004, 0.0055])
def test_the_lowest_point_of_a_parabola_is_found(best: float) -> None:
    of = choose(RATES, parabola(best), 1e-6)
    assert of.rate == pytest.approx(best, rel=2e-4)
    assert of.at_an_edge is None
    assert of.low <= best * 1.001
    assert best * 0.999 <= of.high
    assert of.variance < 1e-6


def test_uneven_grids() -> None:
    rates = [0.001, 0.003, 0.004, 0.01]
    of = choose(rates, [4 + 0.05 * np.log(rate / 0.0035) ** 2 for rate in rates], 1e-6)
    assert of.rate == pytest.approx(0.0035, rel=2e-4)


@pytest.mark.parametrize(("best", "edge", "rate"), [(0.0005, "lowest", 0.001), (0.04, "highest", 0.016)])
def test_an_optimum_at_an_edge_is_kept_and_said(best: float, edge: str, rate: float) -> None:
    of = choose(RATES, parabola(best), 0.001)
    assert of.at_an_edge == edge
    assert of.rate == rate
    assert edge in of.text()


def test_beside_a_run_that_diverged_the_best_run_is_kept() -> None:
    of = choose(RATES, [4.1, 4.0, None, float("inf"), float("nan")], 0.001)
    assert of.rate == 0.002
    assert of.at_an_edge is None
    assert of.excess_nats == pytest.approx(0.1 / 12)
    alone = choose(RATES, [None, 4.0, None, None, None], 0.003)
    assert alone.rate == 0.002
    assert alone.excess_nats == 0.003


def test_the_window_is_what_lies_within_one_per_cent() -> None:
    assert choose(RATES, [4.3, 4.03, 4.0, 4.02, 4.3], 0.001).window == (0.002, 0.008)


def test_what_it_refuses() -> None:
    for rates, losses in (([1, 2], [4, 4]), ([1, 2, 2], [4, 4, 4]), ([1, 2, 3], [4, 4]), ([0, 2, 3], [4, 4, 4])):
        with pytest.raises(ValueError, match="ascending rates"):
            choose(rates, losses, 0.01)
    with pytest.raises(ValueError, match="no run"):
        choose([1, 2, 3], [None, None, None], 0.01)


def test_the_noise_that_was_measured_changes_the_variance_and_not_the_rate() -> None:
    losses = [4.05, 4.02, 4.0, 4.01, 4.06]
    planned = choose(RATES, losses, 0.02)
    measured = choose(RATES, losses, 0.002, planned_sd=0.02)
    assert measured.rate == planned.rate != choose(RATES, losses, 0.002).rate
    assert measured.variance < planned.variance / 4


@pytest.mark.parametrize("rise", [0.25, 0.5, 1.0, 2.0])
def test_what_is_said_to_be_lost_is_lost(rise: float) -> None:
    """In standard deviations of a run; taking the best run of the grid loses twice as much and says nothing."""
    truth = Truth(rungs=1, noise=1.0, first_loss=1000.0, shared=0.0)
    lost = {}
    for parabola in (True, False):
        response = Response(rise=rise, lopsided=0.15, parabola=parabola)
        arrays = draw(np.random.default_rng(3), truth, 6000, response)
        means = arrays.candidate[:, 0].mean(-1) - truth.losses()[1][0]
        lost[parabola] = (means**2).mean() - 1 / truth.seeds
        if parabola:
            said = arrays.candidate_tuning.mean()
    assert expected_variance(1.0) / 4 < said < expected_variance(1.0) * 2
    assert said == pytest.approx(lost[True], abs=0.03)
    assert lost[False] > 2 * lost[True]


def test_a_rate_that_is_kept_for_larger_sizes_is_less_certain_there() -> None:
    given = ([1e-3, 3.16e-3, 1e-2], [3.05, 3.0, 3.05], 0.01)
    at = [choose(*given, doublings=rungs).variance for rungs in range(4)]
    assert at == sorted(at)
    assert choose(*given, doublings=2).rate == pytest.approx(choose(*given).rate * 2**-0.8, rel=5e-3)
    assert at[2] - at[0] == pytest.approx(4 * (at[1] - at[0]))
    narrow = [choose([2e-3, 3e-3, 4.5e-3], *given[1:], doublings=rungs).variance for rungs in (0, 1)]
    assert narrow[1] - narrow[0] > 4 * (at[1] - at[0]), "the best rate moves by more steps of a finer grid"


def test_terms_of_one_sign_add_up() -> None:
    of = variance_of_sum(np.array([0.5, 0.5, -1.0]), np.array([0.04, 0.04, 0.01]))
    assert of == pytest.approx(0.2**2 + 0.1**2)
