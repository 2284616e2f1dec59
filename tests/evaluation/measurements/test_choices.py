"""Oracles score what they must on tasks in words, through bytes and through tokens that are whole words."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.data.worded.dataset import TextTaskDataset
from assay.data.worded.examples import Example
from assay.evaluation.candidates import Asked, answer_nats
from assay.evaluation.measurements import choices
from assay.seeding import derive
from evaluation.small import PLAN, tiny
from oracles import answering, measured, worded

KINDS = "C1a,C1b,C3a,C3b,C3c,C4a,C4c,C5c,C6a,C6b,T2b,T3a,T3b,R05"
CONTEXT = 640


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many examples as keep a test short."""
    monkeypatch.setattr(choices, "MOST", 96)


def chosen(dataset: TextTaskDataset, says: Callable[[Example, bool], str], context: int = CONTEXT):
    return measured("choices", answering(dataset, context, says), dataset, context, 8)


def remembered(example: Example, without: bool) -> str:
    """What was said; where nothing was, the value mentioned last."""
    return mentioned_last(example, without) if without else example.answer


def mentioned_last(example: Example, without: bool) -> str:
    """The value that the text mentions last, or where it mentions none the first candidate that is not the answer."""
    said = [of for of in example.mentioned if not (without and of == example.answer)]
    return said[-1] if said else next(of for of in example.candidates if of != example.answer)


@pytest.fixture(scope="module")
def conversations() -> TextTaskDataset:
    return worded(f"conversations:kinds=[{KINDS}]")


def test_who_remembers_everything_scores_one(conversations: TextTaskDataset) -> None:
    values = chosen(conversations, remembered)
    assert (values.accuracy, values.statefulness) == (1.0, 1.0)
    assert values.nats_per_answer < 1e-4
    kinds = {group.level: group for group in values.groups if group.axis == "kind"}
    assert kinds.keys() == set(KINDS.split(","))
    assert all(group.accuracy == 1.0 and group.statefulness in (1.0, None) for group in kinds.values())
    assert sum(group.answers for group in kinds.values()) == values.answers


def test_who_answers_the_value_mentioned_last_scores_nothing(conversations: TextTaskDataset) -> None:
    values = chosen(conversations, mentioned_last)
    assert values.accuracy == values.last_mentioned == values.floor
    assert values.statefulness == 0.0
    assert 0.15 < values.accuracy < 0.6
    assert values.without_fact < 0.1, "the same text without its fact may be that of several conversations"


def test_who_guesses_gets_the_uniform_floor() -> None:
    dataset = worded("conversations:suite=tiny")
    generator = np.random.default_rng(derive(0, "guess"))
    values = chosen(dataset, lambda example, _: generator.choice(example.candidates), 384)
    assert values.uniform == pytest.approx(0.1)
    assert values.low <= values.uniform <= values.high


def test_what_is_known_without_the_fact_is_no_memory() -> None:
    """A model that answers the same with and without the fact scores nothing, however often that is right."""
    dataset = worded("needle:distractors=1,depth=0")
    reds = sum(example.answer == " red" for example in dataset.examples("test", 88, choices.MOST))
    values = chosen(dataset, lambda *_: " red", 88)
    assert values.accuracy == values.without_fact == reds / choices.MOST
    floor = max(values.accuracy, values.last_mentioned, 1 / 8)
    assert values.statefulness == (values.accuracy - floor) / (1 - floor) <= 0


def test_the_depth_of_a_needle_tells_results_apart() -> None:
    dataset = worded("needle")

    def forgets_early(example: Example, without: bool) -> str:
        return mentioned_last(example, without) if example.levels["depth"] == "early" else remembered(example, without)

    values = chosen(dataset, forgets_early, 256)
    early, middle, late = (group for group in values.groups if group.axis == "depth")
    assert [early.level, middle.level, late.level] == ["early", "middle", "late"]
    assert early.accuracy < 0.3
    assert middle.accuracy == late.accuracy == 1.0


def test_answers_of_several_tokens_are_right_where_all_of_them_are() -> None:
    dataset = worded("needle")
    knows = answering(dataset, 128, lambda example, _: example.answer)
    values = measured("answers", knows, dataset, 128, 300)
    assert values.accuracy == 1.0
    assert values.answers == values.sequences
    assert values.uniform_floor == pytest.approx(1 / 8)
    assert values.bits_recalled == pytest.approx(3, abs=0.3)

    def first_token(inputs: np.ndarray) -> np.ndarray:
        said = knows(inputs)
        return np.where(said == said[:, :1], said, np.where(said == ord(" "), said, 0))

    assert measured("answers", first_token, dataset, 128, 300).accuracy == 0.0


def test_the_nats_of_an_answer_are_those_of_its_tokens_one_by_one() -> None:
    model = tiny("rwkv6")
    text, answers = np.array([3, 5, 7, 9]), [np.array(ids) for ids in ([1], [1, 2], [1, 2, 4], [6, 2], [8])]
    (got,) = answer_nats(model, [Asked(text, answers)], PLAN)
    with torch.no_grad():
        for ids, nats in zip(answers, got, strict=True):
            whole = torch.from_numpy(np.concatenate([text, ids]))[None]
            logits = model.head(model.hidden(whole)[0])[0].log_softmax(-1)
            expected = -sum(float(logits[len(text) - 1 + at, number]) for at, number in enumerate(ids))
            assert nats == pytest.approx(expected, abs=1e-4), ids
