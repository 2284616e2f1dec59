"""Selective copying: symbols among blanks come back in order, without help from the answers before."""

import numpy as np
import pytest

from assay.data.questions import share_of_most_frequent
from assay.errors import RequestError
from assay.evaluation import controls
from assay.targets import IGNORED
from oracles import Guess, measured, task


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls are tested elsewhere."""
    monkeypatch.setattr(controls, "COUNTED_TARGETS", 2_048)


TEXT = "selective_copying:symbols=8,length=5"
CONTEXT = 24
READ = CONTEXT - 5


def saying(window: int | None, frequent: bool = False) -> Guess:
    """Says the symbols in order, those of the last `window` tokens alone; else any, or the most frequent one."""
    generator = np.random.default_rng(0)

    def guess(inputs: np.ndarray) -> np.ndarray:
        said = generator.integers(2, 10, inputs.shape)
        for row, ids in enumerate(inputs):
            places = np.flatnonzero(ids[:READ] > 1)
            if frequent:
                said[row] = np.bincount(ids[places]).argmax()
                continue
            for t, place in zip(range(READ, len(ids)), places, strict=False):
                if window is None or t - place < window:
                    said[row, t] = ids[place]
        return said

    return guess


def test_symbols_come_back_in_order() -> None:
    windows = task(TEXT).held_out("test", CONTEXT, 100)
    assert len(windows.inputs) == 20
    for ids, targets in zip(windows.inputs, windows.targets, strict=True):
        assert ids[READ:].tolist() == [1] * 5
        assert (targets[:READ] == IGNORED).all()
        assert ids[:READ][ids[:READ] > 0].tolist() == targets[READ:].tolist()
    assert len({tuple(np.flatnonzero(ids > 1)) for ids in windows.inputs}) > 10, "places are drawn"


def test_perfect_memory_answers_everything() -> None:
    values = measured("answers", saying(None), task(TEXT), CONTEXT, 2_000)
    assert (values.accuracy, values.training_accuracy) == (1.0, 1.0)
    assert {stretch.first for stretch in values.stretches if stretch.axis == "place"} == set(range(5))


@pytest.mark.parametrize(("frequent", "floor"), [(False, "uniform_floor"), (True, "bag_floor")])
def test_who_knows_no_order_gets_the_floor(frequent: bool, floor: str) -> None:
    values = measured("answers", saying(0, frequent), task(TEXT), CONTEXT)
    assert values.low <= getattr(values, floor) <= values.high
    assert values.uniform_floor == 1 / 8 < values.bag_floor
    if frequent:
        assert values.accuracy == pytest.approx(values.bag_floor), "it says the most frequent symbol of each sequence"


def test_who_forgets_after_a_window_gets_its_curve() -> None:
    values = measured("answers", saying(10), task(TEXT), CONTEXT, 6_000)
    far = [stretch for stretch in values.stretches if stretch.axis == "distance"]
    assert {stretch.accuracy for stretch in far if stretch.last < 10} == {1.0}
    beyond = [stretch for stretch in far if stretch.first >= 10 and stretch.answers > 100]
    assert beyond
    assert all(abs(s.accuracy - 1 / 8) < 5 * np.sqrt(1 / 8 / s.answers) for s in beyond)


def test_the_share_of_the_most_frequent() -> None:
    assert share_of_most_frequent(np.array([[7, 7, 3, 7], [3, 4, 5, 6]])).tolist() == [[0.75], [0.25]]


def test_too_short_a_context_is_refused() -> None:
    with pytest.raises(RequestError, match="--context 9: selective_copying:length=5 needs at least 10 tokens"):
        task("selective_copying:length=5").refuse(9, "shuffled", 100)
    with pytest.raises(RequestError, match="symbols: 1 given, should be greater than or equal to 2"):
        task("selective_copying:symbols=1")
