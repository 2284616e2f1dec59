"""Twins of tasks in words: the same question after a context of as many tokens that says another answer."""

import numpy as np
import pytest

from assay.data.scoring import ScoringWindows
from assay.data.worded.dataset import TextTaskDataset
from assay.targets import IGNORED
from oracles import BABBLE, worded

TASKS = {
    "needle": (256, {}),
    "needle:distractors=3,depth=0": (160, {}),
    "needle:distractors=2,needles=3": (192, {"tokenizer": "bpe:320", "corpus": BABBLE}),
    "needle:kind=number,needles=2": (640, {"corpus": BABBLE}),
    "conversations": (512, {}),
    "conversations:suite=standard": (896, {}),
}


def parts(dataset: TextTaskDataset, windows: ScoringWindows, row: int, context: int) -> tuple[str, str, str]:
    """What is read before the question, the question, and the answer."""
    assert dataset.tokenizer is not None
    asked = windows.targets[row] != IGNORED
    first = int(np.flatnonzero(asked)[0])
    pieces = windows.inputs[row, 1:context], windows.inputs[row, context : first + 1], windows.targets[row, asked]
    context_, question, answer = (dataset.tokenizer.decode(ids.tolist()) for ids in pieces)
    return context_, question, answer


@pytest.mark.parametrize("text", TASKS)
def test_a_twin_asks_the_same_and_is_told_otherwise(text: str) -> None:
    width, data = TASKS[text]
    dataset = worded(text, **data)
    windows = dataset.sequences("test", width, 64)
    questions, twins = dataset.questions(windows), dataset.twins(windows)
    assert questions is not None
    assert questions.context is not None
    assert twins is not None
    there = np.flatnonzero((twins.targets != IGNORED).any(axis=1))
    assert len(there) > (32 if text.startswith("conversations") else 50)
    for row in there:
        context = int(questions.context[row])
        own, other = (parts(dataset, of, row, context) for of in (windows, twins))
        assert own[1] == other[1], "the question"
        assert own[2] != other[2], "the answer"
        assert own[2].strip() in own[0]
        assert other[2].strip() in other[0]
        assert own[2] not in other[0].replace("The sky is blue", "")


def test_what_has_no_twin_has_no_targets() -> None:
    """A tone is shown and not said, so that no other one can be put in its place."""
    dataset = worded("conversations:kinds=[C4b,T2b]")
    twins = dataset.twins(dataset.sequences("test", 512, 8))
    assert twins is not None
    assert (twins.targets == IGNORED).all()
