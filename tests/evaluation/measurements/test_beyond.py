"""Text from beyond the training context: what it saves, nothing where positions end, and nothing where it harms."""

import pytest

from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements.beyond import Beyond, MeasureBeyond
from assay.records import Interval


def values(mean: float, low: float, high: float, windows: int = 64) -> Beyond:
    gained = Interval(mean=mean, low=low, high=high)
    return Beyond(lacks=None, trained=64, read=256, gained=gained, windows=windows, targets=16)


@pytest.mark.parametrize(
    ("gained", "shown"), [((0.1, 0.05, 0.15), (0.1, 0.05, 0.15)), ((-0.4, -0.5, -0.3), (0.0, 0.0, 0.0))]
)
def test_harm_is_worth_nothing_as_a_text_can_be_cut(
    gained: tuple[float, float, float], shown: tuple[float, float, float]
) -> None:
    item = MEASUREMENTS.get("beyond")
    assert isinstance(item, MeasureBeyond)
    (column,) = item.columns(values(*gained))
    assert (column.value, column.low, column.high) == shown
    assert f"gained {gained[0]:+.4f}" in item.sentences(values(*gained))[0], "the sentence says what it costs"


def test_positions_that_end_are_said() -> None:
    item = MEASUREMENTS.get("beyond")
    assert isinstance(item, MeasureBeyond)
    assert "positions end at 64" in item.sentences(values(0.0, 0.0, 0.0, windows=0))[0]
    nothing = Beyond(lacks="too short", trained=64, read=None, gained=None, windows=0, targets=0)
    assert item.columns(nothing)[0].value is None
    assert "too short" in item.sentences(nothing)[0]
