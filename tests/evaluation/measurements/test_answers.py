"""Oracles with and without memory get the accuracy that they must, at every distance."""

import numpy as np
import pytest

from assay.data.task import TaskDataset
from assay.evaluation.measurements.answers import Stretch, half_distance
from assay.seeding import derive
from assay.targets import IGNORED
from oracles import measured, task

CONTEXT = 48
MQAR = "mqar:vocab=64,pairs=3,power=1"


def pairs_of(row: np.ndarray, pairs: int) -> dict[int, tuple[int, int]]:
    """Key -> (its place, its value)."""
    return {int(row[at]): (at, int(row[at + 1])) for at in range(0, 2 * pairs, 2)}


def by_memory(dataset: TaskDataset, window: int | None, other: str = "uniform"):
    """Answers from the last `window` tokens; beyond them one of all values, or one of those of the pairs."""
    axes, generator = dataset.axes, np.random.default_rng(derive(0, "oracle"))

    def guess(inputs: np.ndarray) -> np.ndarray:
        said = generator.integers(axes.vocab // 2, axes.vocab, inputs.shape)
        for row, (ids, answers) in enumerate(zip(inputs, said, strict=True)):
            known = pairs_of(ids, axes.pairs)
            values = [value for _, value in known.values()]
            for t in range(2 * axes.pairs, len(ids)):
                if other == "bag":
                    answers[t] = generator.choice(values)
                place, value = known.get(int(ids[t]), (-1, -1))
                if window != 0 and place >= 0 and (window is None or t - place < window):
                    said[row, t] = value
        return said

    return guess


def test_perfect_memory_answers_everything() -> None:
    dataset = task(MQAR)
    values = measured("answers", by_memory(dataset, None), dataset, CONTEXT)
    assert (values.accuracy, values.training_accuracy) == (1.0, 1.0)
    assert values.low < 1.0 == values.high
    assert values.half_distance is None
    assert values.nats_per_answer < 1e-6
    assert values.bits_recalled == pytest.approx(3 * np.log2(32), abs=1e-4)


@pytest.mark.parametrize(("other", "floor"), [("uniform", "uniform_floor"), ("bag", "bag_floor")])
def test_who_remembers_nothing_gets_the_floor(other: str, floor: str) -> None:
    dataset = task(MQAR)
    values = measured("answers", by_memory(dataset, 0, other), dataset, CONTEXT)
    assert values.low <= getattr(values, floor) <= values.high
    assert values.floor >= getattr(values, floor)
    assert values.half_distance is None
    assert (values.uniform_floor, values.bag_floor) == (1 / 32, pytest.approx(1 / 3))
    assert values.controls["window"] < 0.15, "1. the last four tokens do not hold the pair"
    assert values.controls["query"] < 0.1, "2. nor does the key alone"


def test_who_forgets_after_a_window_gets_its_curve() -> None:
    dataset = task(MQAR)
    values = measured("answers", by_memory(dataset, 20), dataset, CONTEXT, 12_000)
    assert values.stretches
    assert {stretch.axis for stretch in values.stretches} == {"distance"}
    for stretch in values.stretches:
        if stretch.last < 20:
            assert stretch.accuracy == 1.0, stretch
        elif stretch.first >= 20:
            assert abs(stretch.accuracy - 1 / 32) < 5 * np.sqrt(1 / 32 / stretch.answers), stretch
    assert 20 <= values.half_distance <= 24


def test_the_window_floor_is_what_such_an_oracle_gets() -> None:
    dataset = task(MQAR)
    windows = dataset.held_out("test", CONTEXT, 12_000)
    questions = dataset.questions(windows)
    assert questions is not None
    asked = windows.targets != IGNORED
    values = measured("answers", by_memory(dataset, 20), dataset, CONTEXT, 12_000)
    assert values.low <= questions.window(20)[asked].mean() <= values.high


def test_a_shortcut_is_named() -> None:
    """A task whose answer follows from the query alone: the table finds it, and the sentences say so."""
    dataset = task("mqar:vocab=6,pairs=2,power=1")
    values = measured("answers", by_memory(dataset, None), dataset, CONTEXT)
    assert values.controls["window"] < 0.65


def stretch(first: int, accuracy: float, floor: float = 0.1) -> Stretch:
    return Stretch(
        axis="distance",
        first=first,
        last=first,
        answers=99,
        accuracy=accuracy,
        low=accuracy - 0.05,
        high=1,
        floor=floor,
    )


def test_half_of_what_is_recalled_nearby() -> None:
    falling = [stretch(1, 1.0), stretch(2, 0.9), stretch(4, 0.54), stretch(8, 0.3)]
    assert half_distance(falling) == 4, "(1 + 0.1) / 2 is not reached any more"
    assert half_distance(falling[:2]) is None
    assert half_distance([*falling, stretch(16, 0.9)]) is None, "it comes back"
    assert half_distance([stretch(1, 0.12), stretch(2, 0.01)]) is None, "nothing is recalled even nearby"
    assert half_distance([]) is None
