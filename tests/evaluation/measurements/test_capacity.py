"""Oracles that hold so many things get exactly that capacity, and those that know no binding none."""

import numpy as np
import pytest

from assay.data.task import TASKS, Task, TaskDataset
from assay.errors import RequestError
from assay.evaluation.measurements import capacity
from assay.evaluation.measurements.capacity import Load, MeasureCapacity, recalled, with_things
from oracles import Guess, measured, task

COPYING = "selective_copying:symbols=16,length=5"
CONTEXT = 26


def holding(things: int) -> Guess:
    """Repeats the first so many symbols and guesses the others."""
    generator = np.random.default_rng(0)

    def guess(inputs: np.ndarray) -> np.ndarray:
        said = generator.integers(2, 18, inputs.shape)
        for row, ids in enumerate(inputs):
            held = ids[ids > 1][:things]
            begin = int(np.flatnonzero(ids == 1)[0])
            said[row, begin : begin + len(held)] = held
        return said

    return guess


def test_who_holds_four_things_has_room_for_four() -> None:
    values = measured("capacity", holding(4), task(COPYING), CONTEXT)
    assert (values.axis, values.trained_with, values.recalled) == ("length", 5, 4)
    assert [load.things for load in values.loads] == [1, 2, 3, 4, 5, 6, 8, 12], "the grid, and 5 from training"
    for load in values.loads:
        share = min(1, 4 / load.things)
        assert load.low - 0.02 <= share + (1 - share) / 16 <= load.high + 0.02
    by_things = {load.things: load for load in values.loads}
    assert by_things[4].bits_recalled == pytest.approx(4 * np.log2(16), abs=1e-3)
    assert values.bits_recalled == by_things[4].bits_recalled, "a wrong answer that is sure costs more than it brings"
    (sentence,) = MeasureCapacity().sentences(values)
    assert sentence.startswith("length from 1 to 12; trained with 5: 4 are recalled at 100.0% ")


def test_who_holds_everything_may_hold_more_than_fits() -> None:
    def recall(inputs: np.ndarray) -> np.ndarray:
        said = np.zeros_like(inputs)
        for row, ids in enumerate(inputs):
            _, first, of = np.unique(ids, return_index=True, return_inverse=True)
            said[row] = ids[np.minimum(first + 1, len(ids) - 1)][of]  # what follows where it stood first
        return said

    values = measured("capacity", recall, task("mqar:vocab=32,pairs=4"), 40)
    assert [load.things for load in values.loads] == [1, 2, 3, 4, 6, 8]
    assert values.recalled == 8
    assert {load.accuracy for load in values.loads} == {1.0}
    assert "the most that fit" in MeasureCapacity().sentences(values)[0]
    assert {point.series for point in MeasureCapacity().figures(values)[0].points} == {"model", "floor"}


def test_to_answer_the_only_value_is_not_to_recall() -> None:
    """One who knows the bag alone answers one pair always right; that is its floor."""

    def guess(inputs: np.ndarray) -> np.ndarray:
        return np.stack([np.full(len(ids), np.bincount(ids[ids > 1]).argmax()) for ids in inputs])

    values = measured("capacity", guess, task(COPYING), CONTEXT)
    assert values.loads[0].accuracy == values.loads[0].floor == 1.0
    assert all(load.accuracy == pytest.approx(load.floor) for load in values.loads)
    assert values.recalled == 0
    assert "none is recalled" in MeasureCapacity().sentences(values)[0]


def test_numbers_stop_where_vocabulary_or_context_do() -> None:
    few_keys = task("mqar:vocab=16,pairs=5")
    assert [things for things, _ in with_things(few_keys, "pairs", 64)] == [1, 2, 3, 4, 5, 6]
    filled = task("copying")
    assert [things for things, _ in with_things(filled, "length", 16)] == [1, 2, 3, 4, 6, 8]
    for things, of in with_things(few_keys, "pairs", 64):
        assert of.axes.pairs == things
        assert of.axes.vocab == 16


def load(things: int, accuracy: float, floor: float | None) -> Load:
    return Load(
        things=things, answers=99, sequences=99, accuracy=accuracy, low=accuracy - 0.05, high=1, floor=floor,
        bits_recalled=0,
    )  # fmt: skip


def test_the_largest_number_that_is_recalled() -> None:
    assert recalled([load(1, 1, 1), load(2, 0.95, 0.5), load(4, 0.9, 0.25), load(8, 0.89, 0.1)]) == 4
    assert recalled([load(1, 1, 1), load(2, 0.95, 0.92)]) == 0, "no better than its floor"
    assert recalled([load(1, 0.95, None)]) == 1


def test_an_axis_that_is_none_is_refused() -> None:
    dataset = task("parity")
    assert isinstance(dataset, TaskDataset)
    with pytest.raises(RequestError, match="task parity: capacity is None; one of its axes would do"):
        capacity.capacity_axis(dataset)


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_names_an_axis_of_its_own_or_none(name: str) -> None:
    of = TASKS.get(name)
    axis = of.capacity if isinstance(of, Task) else None  # tasks in words have none
    assert axis is None or axis in of.axes.model_fields
