"""What a plan can resolve, against simulated gates, and the seeds that a difference takes."""

from dataclasses import replace

import numpy as np
import pytest

from assay.analysis.scaling.gain import log_gains
from assay.analysis.scaling.ladder import Cost, Ladder, Rung, Trained
from assay.analysis.scaling.resolvable import Plan, detectable, plan_of, seeds_for, seeds_to_close
from assay.analysis.scaling.simulation import Truth, draw

PLAN = Plan(seeds=5, rungs=4, noise_sd=0.01, slope_nats=0.2)


@pytest.mark.parametrize("worthwhile", [1.0, 1.2])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_detectable_gain_is_detected_in_four_of_five_gates(worthwhile: float, seeds: int) -> None:
    truth = Truth(rungs=4, seeds=seeds, noise=0.01, exponent=0.1)
    at = truth.log_costs().candidate[-1:] + np.log(worthwhile)
    slope = (truth.baseline_loss(at - 1e-4) - truth.baseline_loss(at))[0] / 1e-4
    plan = Plan(seeds, 4, 0.01, float(slope), shared=truth.shared, worthwhile=worthwhile)
    truth = replace(truth, gain=detectable(plan).gain)
    of = log_gains(draw(np.random.default_rng(0), truth, 3000), truth.log_costs(), 3, 0.95)
    assert np.mean(of.low > np.log(worthwhile)) == pytest.approx(0.8, abs=0.03)


def test_more_of_everything_resolves_less_or_more() -> None:
    nats = detectable(PLAN).nats
    assert detectable(replace(PLAN, seeds=10)).nats < nats
    assert detectable(replace(PLAN, rungs=6)).nats < nats
    assert detectable(replace(PLAN, tuning_variance=1e-5)).nats > nats
    assert detectable(replace(PLAN, shared=0.5)).nats < nats
    assert detectable(PLAN).gain == pytest.approx(np.exp(nats / 0.2))
    with pytest.raises(ValueError, match="two seeds"):
        detectable(replace(PLAN, seeds=1))


def test_seeds_for_a_difference() -> None:
    needed = seeds_for(PLAN, 0.01)
    assert needed is not None
    assert detectable(replace(PLAN, seeds=needed)).nats <= 0.01 < detectable(replace(PLAN, seeds=needed - 1)).nats
    assert seeds_for(replace(PLAN, tuning_variance=1e-4), 0.01) is None  # tuning alone is more uncertain
    with pytest.raises(ValueError, match="above zero"):
        seeds_for(PLAN, 0.0)


def test_seeds_to_close() -> None:
    close, far = seeds_to_close(PLAN, 1.05), seeds_to_close(PLAN, 1.2)
    assert close is not None
    assert far is not None
    assert far.low <= far.high < close.low < close.high
    assert seeds_to_close(PLAN, 1.0) is None


def test_the_plan_of_a_gate_that_was_run() -> None:
    truth = Truth(rungs=4, seeds=12, exponent=0.2, noise=0.01, shared=0.4)
    arrays, costs = draw(np.random.default_rng(1), truth, 1), truth.log_costs()
    arms = [
        [Trained(dict(enumerate(of[0, i].tolist())), Cost(flops=float(np.exp(costs.baseline[i])))) for i in range(n)]
        for of, n in ((arrays.baseline, 5), (arrays.candidate, 4))
    ]
    of = plan_of(Ladder(tuple(Rung(str(i), arms[0][i], arms[1][i] if i < 4 else None) for i in range(5))))
    assert of is not None
    assert (of.seeds, of.rungs, of.above) == (12, 4, 1)
    assert of.step == pytest.approx(2.0)
    assert of.noise_sd == pytest.approx(0.01, rel=0.25)
    assert of.shared == pytest.approx(0.4, abs=0.25)
    assert of.slope_nats == pytest.approx(0.2 * 2.5 * 8**-0.2, rel=0.1)
