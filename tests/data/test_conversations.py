"""Conversations: no template and no pair of two splits, every value learned, and all of them as long as is said."""

import itertools
import re

import pytest

from assay.data.corpus import Split
from assay.data.task import find_task
from assay.data.tasks.conversations import SUITES
from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.examples import Example
from assay.data.worded.scenes import SCENES
from assay.data.worded.templates import EVERY, NAMES, SPLITS_IN_ORDER, TOPICS
from assay.errors import RequestError
from oracles import worded

LONGEST = 3_200


@pytest.fixture(scope="module")
def extended() -> TextTaskDataset:
    return worded("conversations:suite=extended")


@pytest.fixture(scope="module")
def of_splits(extended: TextTaskDataset) -> dict[Split, list[Example]]:
    """Enough that every kind and every value comes several times; of training with another seed each block."""
    return {
        split: [one for step in range(10) for one in extended._drawn(58, LONGEST, 3, split, step, None)]
        for split in SPLITS_IN_ORDER
    }


def pattern(template: str) -> re.Pattern[str]:
    """What a line that was made from the template looks like."""
    return re.compile(r"\n[\w ]+: " + re.sub(r"\\\{\w+\\\}", r"[\\w-]+", re.escape(template)))


def test_no_template_is_of_two_splits() -> None:
    of = {split: {text for each in EVERY for text in each.of(split)} for split in SPLITS_IN_ORDER}
    for one, other in itertools.combinations(SPLITS_IN_ORDER, 2):
        assert not of[one] & of[other]


def test_no_line_of_the_test_could_have_been_trained_on(of_splits: dict[Split, list[Example]]) -> None:
    trained = [pattern(text) for each in EVERY for text in each.train]
    lines = {
        line
        for example in of_splits["test"]
        for piece in example.pieces
        for line in re.findall(r"\n[\w ]+: [^\n]+", str(piece))
    }
    assert len(lines) > 300
    matched = [line for line in lines if any(each.fullmatch(line) for each in trained)]
    assert not matched


def test_no_pair_of_name_and_value_is_of_two_splits(of_splits: dict[Split, list[Example]]) -> None:
    pairs = {split: {pair for one in examples for pair in one.pairs} for split, examples in of_splits.items()}
    assert min(len(of) for of in pairs.values()) > 150
    for one, other in itertools.combinations(SPLITS_IN_ORDER, 2):
        assert not pairs[one] & pairs[other]
    for topic in TOPICS:
        for value in topic.values:
            assert {topic.split_of(name, value) for name in NAMES} == set(SPLITS_IN_ORDER)


def test_every_value_is_a_target_of_training() -> None:
    dataset = worded("conversations:kinds=[C1a,C3b,C4a,C4b,C5a,C6b,T3a]")
    answers = {one.answer for one in dataset._drawn(2_000, 600, 0, "train", 0, None)}
    assert answers == {topic.answer(value) for topic in TOPICS for value in topic.values}


def test_every_answer_of_the_test_is_one_of_training(of_splits: dict[Split, list[Example]]) -> None:
    """An age's answer is a name; two words together are new by design."""
    known = {topic.answer(value) for topic in TOPICS for value in topic.values} | {f" {name}" for name in NAMES}
    assert {one.answer for one in of_splits["test"] if one.kind != "C4c"} <= known


def test_new_values_are_in_no_training_sequence() -> None:
    dataset = worded("conversations:suite=standard,unseen=true")
    new = {f" {value}" for topic in TOPICS for value in topic.unseen}
    anywhere = re.compile("|".join(rf"{value}\b" for value in sorted(new)))
    tested = dataset.examples("test", 900, 256)
    assert {one.answer for one in tested} <= new
    assert all(set(one.candidates) <= new for one in tested)
    trained = dataset._drawn(256, 900, 0, "train", 0, None)
    assert not any(anywhere.search("".join(map(str, one.pieces)) + one.answer) for one in trained)


def test_the_fact_says_the_answer_and_nothing_else_does(of_splits: dict[Split, list[Example]]) -> None:
    told_otherwise = ("C4b", "C4c", "T2b")
    for example in of_splits["test"]:
        facts = "".join(str(example.pieces[at]) for at in example.facts)
        rest = "".join(map(str, example.without_facts()))
        if example.kind not in told_otherwise:
            assert example.answer in facts, example
            assert not re.search(rf"{re.escape(example.answer)}\b", rest), example
        assert example.answer in example.candidates
        assert len(set(example.candidates)) == len(example.candidates)


def test_every_kind_fits_the_context_that_the_suite_asks_for(
    extended: TextTaskDataset, of_splits: dict[Split, list[Example]]
) -> None:
    shortest = extended.task.shortest(extended.axes)
    lengths = [extended.words.tokens(*one.pieces, one.answer) for of in of_splits.values() for one in of]
    assert {one.kind for one in of_splits["test"]} == set(SCENES)
    assert max(lengths) <= LONGEST
    assert 0.75 * shortest < max(length for length in lengths) <= max(shortest, LONGEST)
    with pytest.raises(RequestError, match="needs at least"):
        extended.refuse(2_000, "shuffled", 10)


def test_the_last_third_of_a_filled_context_is_the_late_one() -> None:
    dataset = worded("conversations:kinds=[C2a,C2b,C2c],length=2000")
    for example in dataset.examples("test", 4_000, 12):
        before = dataset.words.tokens(*example.pieces[: example.facts[0]])
        whole = dataset.words.tokens(*example.pieces)
        assert 1_300 < whole <= 2_000
        third = ("early", "middle", "late").index(example.levels["depth"])
        assert third / 3 - 0.08 < before / whole < (third + 1) / 3 + 0.08


@pytest.mark.parametrize("suite", SUITES)
def test_suites_grow(suite: str) -> None:
    assert set(SUITES[suite]) <= set(SCENES)
    assert set(SUITES["tiny"]) | set(SUITES["minimal"]) <= set(SUITES["standard"]) <= set(SUITES["extended"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conversations:kinds=[C9]", "kinds=C9: unknown; C1a, C1b"),
        ("conversations:suite=huge", "suite: 'huge' given"),
        ("conversations:kinds=[T2b],unseen=true", "unseen=true: T2b cannot be about new values"),
        ("conversations:length=500", "length=500: none of the kinds fills it"),
    ],
)
def test_a_wrong_axis_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_task(text)
    assert str(caught.value).startswith(f"--task {text}: {message}")
