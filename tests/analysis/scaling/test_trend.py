"""The trend of a gain along a ladder: its four verdicts, and coverage."""

import numpy as np
import pytest

from assay.analysis.scaling.ladder import Cost, Ladder, Rung, Trained
from assay.analysis.scaling.simulation import Truth, draw
from assay.analysis.scaling.trend import slopes, trend


def one(truth: Truth, seed: int = 0) -> Ladder:
    """A ladder drawn from a truth."""
    arrays, costs = draw(np.random.default_rng(seed), truth, 1), truth.log_costs()

    def arm(losses: np.ndarray, log_cost: float) -> Trained:
        return Trained(dict(enumerate(losses.tolist())), Cost(flops=float(np.exp(log_cost))))

    rungs = []
    for index, log_cost in enumerate(costs.baseline):
        candidate = None
        if index < len(costs.candidate):
            candidate = arm(arrays.candidate[0, index], costs.candidate[index])
        rungs.append(Rung(str(index), arm(arrays.baseline[0, index], log_cost), candidate))
    return Ladder(tuple(rungs))


@pytest.mark.parametrize(
    ("slope", "margin", "verdict"),
    [
        (0.1, None, "GROWS"),
        (-0.1, None, "SHRINKS"),
        (0.0, 0.03, "HOLDS"),
        (0.0, None, "NOT TOLD"),
        (0.1, 0.03, "GROWS"),
    ],
)
def test_verdicts(slope: float, margin: float | None, verdict: str) -> None:
    of = trend(one(Truth(rungs=5, trend=slope, noise=0.002)), margin=margin)
    assert of is not None
    assert of.verdict == verdict
    assert of.text().startswith(verdict)


def test_noise_alone_never_holds() -> None:
    of = trend(one(Truth(rungs=3, seeds=3, noise=0.02)), margin=0.03)
    assert of is not None
    assert of.verdict == "NOT TOLD"


def test_a_tenfold_of_compute() -> None:
    of = trend(one(Truth(rungs=4, trend=0.1, noise=1e-5)))
    assert of is not None
    assert of.per_tenfold == pytest.approx(10**0.1, rel=0.01)


def test_without_a_gain_on_every_rung_it_is_not_told() -> None:
    of = trend(one(Truth(rungs=3, gain=1e4, noise=0.001)))
    assert of is not None
    assert of.verdict == "NOT TOLD"
    assert of.slope is None
    assert trend(one(Truth(rungs=1))) is None
    assert trend(one(Truth(rungs=3)), "parameters") is None


def test_identical_arms_and_seeds_that_change_nothing() -> None:
    of = one(Truth(rungs=3))
    same = Ladder(tuple(Rung(rung.name, rung.baseline, rung.baseline) for rung in of.rungs))
    found = trend(same)
    assert found is not None
    assert found.verdict == "NOT TOLD"
    assert found.slope == pytest.approx(0, abs=1e-6)
    shifted = [
        Trained({seed: loss - 0.01 * index for seed, loss in rung.baseline.losses.items()}, rung.baseline.cost)
        for index, rung in enumerate(of.rungs)
    ]
    found = trend(
        Ladder(tuple(Rung(rung.name, rung.baseline, arm) for rung, arm in zip(of.rungs, shifted, strict=True)))
    )
    assert found is not None
    assert found.slope is None


@pytest.mark.parametrize(
    "truth",
    [
        Truth(rungs=3, seeds=3, above=0),
        Truth(rungs=5, seeds=3, exponent=0.3, noise=0.004, gain=1.3),
        Truth(rungs=4, seeds=5, exponent=0.05, noise=0.02, trend=0.1, shape="skewed"),
    ],
)
def test_coverage(truth: Truth) -> None:
    of = slopes(draw(np.random.default_rng(2), truth, 2000), truth.log_costs(), 0.95)
    assert np.mean(~(np.abs(of.slope - truth.trend) > of.half)) > 0.935
    assert np.mean(np.isnan(of.half)) < 0.01
