"""Multi-query associative recall: every sequence is solvable by its own rule, and only by it."""

import numpy as np
import pytest

from assay.errors import RequestError
from assay.targets import IGNORED
from oracles import task


@pytest.mark.parametrize("text", ["mqar", "mqar:pairs=16,vocab=64", "mqar:vocab=8192,filler=random"])
def test_every_key_is_asked_once_and_its_value_is_the_answer(text: str) -> None:
    dataset = task(text)
    axes, half = dataset.axes, dataset.axes.vocab // 2
    windows = dataset.held_out("test", 64, 20 * axes.pairs)
    assert len(windows.inputs) == 20
    for ids, targets in zip(windows.inputs, windows.targets, strict=True):
        keys, values = ids[0 : 2 * axes.pairs : 2].tolist(), ids[1 : 2 * axes.pairs : 2].tolist()
        asked = np.flatnonzero(targets != IGNORED)
        assert len(set(keys)) == len(set(values)) == len(asked) == axes.pairs
        assert all(1 <= key < half <= value < axes.vocab for key, value in zip(keys, values, strict=True))
        assert {(int(ids[t]), int(targets[t])) for t in asked} == set(zip(keys, values, strict=True))
        assert (asked >= 2 * axes.pairs).all()
        if axes.filler == "clean":
            rest = np.delete(ids[2 * axes.pairs :], asked - 2 * axes.pairs)
            assert not set(rest.tolist()) & set(keys), "filler would bind a key anew"


def test_distances_lead_to_the_key() -> None:
    dataset = task("mqar:filler=random,vocab=16,pairs=4")
    windows = dataset.held_out("test", 32, 400)
    questions = dataset.questions(windows)
    assert questions is not None
    for row, t in zip(*np.nonzero(windows.targets != IGNORED), strict=True):
        key = t - questions.distance[row, t]
        assert windows.inputs[row, key] == windows.inputs[row, t]
        assert windows.inputs[row, key + 1] == windows.targets[row, t]


def test_queries_follow_the_power_law() -> None:
    """One pair: slot x has the chance x^(power - 1) / sum, here 1/x nearly."""
    dataset = task("mqar:pairs=1,power=0.01")
    windows = dataset.held_out("test", 34, 40_000)
    slots = (np.nonzero(windows.targets != IGNORED)[1] - 2) // 2
    expected = np.arange(1.0, 17.0) ** (0.01 - 1)
    expected /= expected.sum()
    assert np.abs(np.bincount(slots, minlength=16) / len(slots) - expected).max() < 0.01


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mqar:pairs=8,vocab=16", "pairs=8: vocab=16 has 7 keys; at most so many would do"),
        ("mqar:filler=blank", "filler"),
        ("mqar:pairs=0", "pairs"),
    ],
)
def test_what_cannot_be_asked(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        task(text)


def test_too_short_a_context_is_refused() -> None:
    with pytest.raises(RequestError, match="--context 30: mqar:pairs=8 needs at least 32 tokens"):
        task("mqar:pairs=8").refuse(30, "shuffled", 100)
