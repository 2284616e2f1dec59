"""Verdicts from intervals, one error budget."""

import pytest

from assay.analysis.scaling.deciding import Criterion, decide, level_of_each


@pytest.mark.parametrize(
    ("low", "high", "better", "state"),
    [
        (1.01, 1.2, "higher", "PASS"),
        (0.9, 1.2, "higher", "OPEN"),
        (0.8, 0.99, "higher", "FAIL"),
        (1.01, 1.2, "lower", "FAIL"),
        (0.8, 0.99, "lower", "PASS"),
        (1.01, None, "higher", "PASS"),
        (None, 0.99, "higher", "FAIL"),
        (None, None, "higher", "OPEN"),
        (1.0, 1.2, "higher", "OPEN"),  # not beyond the threshold
    ],
)
def test_states(low: float | None, high: float | None, better: str, state: str) -> None:
    assert Criterion("gain", low, high, 1.0, better).state == state  # type: ignore[arg-type]


def test_go_needs_all_and_one_failure_is_enough_for_no_go() -> None:
    gain = Criterion("gain", 1.1, 1.3, 1.0, primary=True)
    speed = Criterion("speed", 0.9, 1.3, 1.0)
    memory = Criterion("memory", 1.1, 1.3, 1.0, better="lower")
    assert decide([gain]).verdict == "GO"
    assert decide([gain, speed]) == ("UNDECIDED", ("speed",), ())
    assert decide([gain, speed, memory]) == ("NO-GO", ("speed",), ("memory",))
    with pytest.raises(ValueError, match="one criterion is primary"):
        decide([speed])


def test_one_budget() -> None:
    assert level_of_each(0.95, 1) == pytest.approx(0.95)
    assert level_of_each(0.95, 5) == pytest.approx(0.99)
    assert level_of_each(0.95, 0) == pytest.approx(0.95)
