"""Arms that begin far from the others are named, with the numbers; the others are not."""

import pytest

from assay.analysis.initial_spread import START, said_of
from assay.records import Code, Column, Measured, MeasurementResult, Results
from report.factory import MadeUp, runs, study


def begun(logits: float | None, stream: float | None, version: int = 2) -> Results:
    """The results of one run that has these standard deviations."""
    columns = {"initial_logits": logits, "initial_stream": stream}
    return {
        "signals": MeasurementResult(
            measurement="signals",
            measurement_version=version,
            question="How?",
            unit="standard deviation",
            group="signals",
            scope="run",
            measured=Measured(label="a"),
            code=Code(kind="built-in", name="assay"),
            values={},
            columns=[Column(key=key, head=key, format="number", value=value) for key, value in columns.items()],
        )
    }


def test_one_that_is_far_is_named_with_its_number_and_the_others() -> None:
    arms = {"a": [begun(0.2, 1.0)], "b": [begun(0.25, 1.0)], "c": [begun(0.9, 1.0)], "d": [begun(0.2, 0.02)]}
    (line,) = said_of(arms)
    assert "logits of c (0.9 against 0.2) and the residual stream of d (0.02 against 1)." in line
    assert "of a " not in line
    assert "of b " not in line
    assert said_of({name: of for name, of in arms.items() if name in "ab"}) == []


@pytest.mark.parametrize(("factor", "far"), [(2.9, False), (3.1, True), (1 / 2.9, False), (1 / 3.1, True)])
def test_far_is_three_times_either_way(factor: float, far: bool) -> None:
    arms = {"a": [begun(1.0, 1.0)], "b": [begun(1.0, 1.0)], "c": [begun(factor, 1.0)]}
    assert bool(said_of(arms)) == far


def test_the_mean_over_seeds_counts() -> None:
    assert said_of({"a": [begun(1.0, 1.0)], "b": [begun(1.0, 1.0), begun(7.0, 1.0)]}) != []
    assert said_of({"a": [begun(1.0, 1.0)], "b": [begun(1.0, 1.0), begun(4.0, 1.0)]}) == []


def test_of_two_arms_one_stands_for_both() -> None:
    (line,) = said_of({"a": [begun(0.5, 1.0)], "b": [begun(0.1, 1.0)]}, "1M parameters")
    assert line.startswith("Before training, at 1M parameters, ")
    assert "logits of a (0.5 against 0.1)." in line
    assert "of b" not in line


def test_what_was_not_measured_or_by_two_versions_is_not_compared() -> None:
    assert said_of({}) == []
    assert said_of({"a": [begun(0.5, 1.0)], "b": [{}]}) == []
    assert said_of({"a": [begun(0.5, 1.0)], "b": [begun(None, None)]}) == []
    assert said_of({"a": [begun(0.5, 1.0)], "b": [begun(0.1, 1.0, version=1)]}) == []


def test_the_headline_says_it_and_so_the_page() -> None:
    logits = {"gpt1": 0.2, "rwkv6": 0.001, "mamba2": 0.25}
    begin = [MadeUp(of.record, {**of.results, **begun(logits[of.record.label], 1.0)}, {}, of.inside) for of in runs()]
    lines = [line for line in study(begin).headline if line.startswith(START)]
    assert lines == [
        "Before training, standard deviations are over 3 times from the median of the other arms': logits of rwkv6 "
        "(0.001 against 0.225). Differences may be those of the draws."
    ]
    assert not any(line.startswith(START) for line in study(runs()).headline)
