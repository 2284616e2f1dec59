"""Recall with overwritten values: the last binding counts, and no earlier one is worth more than a guess."""

import numpy as np
import pytest

from assay.data.scoring import ScoringWindows
from assay.errors import RequestError
from assay.evaluation import controls
from assay.targets import IGNORED
from oracles import Guess, measured, task


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls are tested elsewhere."""
    monkeypatch.setattr(controls, "COUNTED_TARGETS", 2_048)


TEXT = "overwrite:vocab=64,pairs=4,rewrites=5"
BOUND = 18
CONTEXT = 40


def saying(which: str) -> Guess:
    """Says the first or the last value of each key, or any of those that occur."""
    generator = np.random.default_rng(0)

    def guess(inputs: np.ndarray) -> np.ndarray:
        said = np.zeros_like(inputs)
        for row, ids in enumerate(inputs):
            bindings = list(zip(ids[0:BOUND:2].tolist(), ids[1:BOUND:2].tolist(), strict=True))
            known = dict(bindings if which == "last" else bindings[::-1])
            for t in range(BOUND, len(ids)):
                said[row, t] = known.get(int(ids[t]), 0)
            if which == "any":
                said[row] = generator.choice(sorted({value for _, value in bindings}), len(ids))
        return said

    return guess


def test_each_key_is_asked_once_and_each_value_is_the_last_of_one() -> None:
    windows = task(TEXT).held_out("test", CONTEXT, 400)
    assert len(windows.inputs) == 100
    for ids, targets in zip(windows.inputs, windows.targets, strict=True):
        keys, values = ids[0:BOUND:2].tolist(), ids[1:BOUND:2].tolist()
        asked = np.flatnonzero(targets != IGNORED)
        assert sorted(set(keys)) == sorted(ids[asked].tolist())
        assert sorted(set(values)) == sorted(targets[asked].tolist())
        assert all(1 <= key < 32 <= value < 64 for key, value in zip(keys, values, strict=True))
        assert dict(zip(keys, values, strict=True)) == dict(
            zip(ids[asked].tolist(), targets[asked].tolist(), strict=True)
        )
        assert not set(np.delete(ids, asked)[BOUND:].tolist()) & set(keys), "filler would ask a key again"


def questioned(text: str, context: int, targets: int) -> tuple[ScoringWindows, dict[str, np.ndarray]]:
    dataset = task(text)
    windows = dataset.held_out("test", context, targets)
    made = dataset.questions(windows)
    assert made is not None
    asked = windows.targets != IGNORED
    return windows, {"distance": made.distance[asked], "overwritten": made.difficulty["overwritten"][asked]}


def test_distance_leads_to_the_last_binding() -> None:
    windows, known = questioned(TEXT, CONTEXT, 400)
    rows, places = np.nonzero(windows.targets != IGNORED)
    for row, t, back, times in zip(rows, places, known["distance"], known["overwritten"], strict=True):
        ids = windows.inputs[row]
        assert ids[t - back] == ids[t]
        assert ids[t - back + 1] == windows.targets[row, t]
        assert (ids[0:BOUND:2] == ids[t]).sum() == times + 1


def test_perfect_memory_answers_everything() -> None:
    values = measured("answers", saying("last"), task(TEXT), CONTEXT)
    assert (values.accuracy, values.training_accuracy) == (1.0, 1.0)
    assert values.low < 1.0
    assert max(values.controls.values()) < 0.12, "the last tokens do not hold the binding"


def test_one_of_the_values_that_occur_is_the_floor() -> None:
    values = measured("answers", saying("any"), task(TEXT), CONTEXT)
    assert (values.uniform_floor, values.bag_floor) == (1 / 32, 1 / 4)
    assert values.low <= values.bag_floor <= values.high


def test_the_first_value_is_worth_no_more_than_a_guess_where_it_was_overwritten() -> None:
    values = measured("answers", saying("first"), task(TEXT), CONTEXT, 8_000)
    by_times = {stretch.first: stretch for stretch in values.stretches if stretch.axis == "overwritten"}
    assert by_times[0].accuracy == 1.0, "its first value is its last"
    assert {1, 2, 3} <= set(by_times)
    for times in (1, 2, 3):
        assert by_times[times].low <= by_times[times].floor == 1 / 4 <= by_times[times].high
    never = (1 - 1 / 4) ** 5
    assert values.low <= never + (1 - never) / 4 <= values.high


def test_without_rewrites_it_is_plain_recall() -> None:
    _, known = questioned("overwrite:rewrites=0", 32, 100)
    assert set(known["overwritten"].tolist()) == {0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("overwrite:pairs=8,vocab=16", "pairs=8: vocab=16 has 7 keys; at most so many would do"),
        ("overwrite:rewrites=-1", "rewrites"),
    ],
)
def test_what_cannot_be_asked(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        task(text)


def test_the_shortest_context_holds_all_queries() -> None:
    dataset = task("overwrite:pairs=3,rewrites=2")
    assert dataset.held_out("test", 13, 30).inputs.shape == (10, 13)
    with pytest.raises(RequestError, match="--context 12: overwrite:pairs=3,rewrites=2 needs at least 13 tokens"):
        dataset.refuse(12, "shuffled", 100)
