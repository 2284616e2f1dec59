"""Intervals of single arms against scipy, their coverage against a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.analysis.columns import columns_of
from assay.analysis.statistics import mean_interval, perplexity_interval
from assay.records import Code, Column, Measured, MeasurementResult


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
    """With three seeds the normal quantile covers 0.81 of the time; four standard errors tell the two apart."""
    samples = np.random.default_rng(5).normal(1.0, 0.1, (4000, 3))
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    covered = np.mean([found.low < 1.0 < found.high for found in intervals if found.low and found.high])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
    normal_halves = 1.96 * stats.sem(samples, axis=1)
    normal = np.mean(np.abs(samples.mean(axis=1) - 1.0) < normal_halves)
    assert normal == pytest.approx(0.811, abs=4 * math.sqrt(0.8 * 0.2 / 4000))


def test_perplexity_interval_is_that_of_the_nats_exponentiated() -> None:
    nats = [4.1, 4.3, 4.15]
    over_nats, found = mean_interval(nats), perplexity_interval(nats)
    assert found.mean == pytest.approx(math.prod(map(math.exp, nats)) ** (1 / 3))
    assert over_nats.low is not None
    assert over_nats.high is not None
    assert (found.low, found.high) == pytest.approx((math.exp(over_nats.low), math.exp(over_nats.high)))
    assert perplexity_interval([1000.0]).mean == math.inf


def test_shares_stay_between_none_and_all() -> None:
    """Student's interval of 90%, 100% and 100% would reach beyond 100%."""
    of_runs = [
        {
            "answers": MeasurementResult(
                measurement="answers",
                measurement_version=1,
                question="?",
                unit="share",
                group="memory",
                scope="run",
                measured=Measured(label="gpt1"),
                code=Code(kind="built-in", name="assay"),
                values={},
                columns=[Column(key="accuracy", head="accuracy", format="percent", value=value)],
            )
        }
        for value in (0.9, 1.0, 1.0)
    ]
    (column,) = columns_of("gpt1", of_runs, {}, 0.95)
    assert column.high == 1.0
    assert column.low is not None
    assert 0.0 <= column.low < 0.9
