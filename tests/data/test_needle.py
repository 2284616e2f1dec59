"""Needles: where they lie, what fits, what a curriculum trains on, and how tokenizers cut them."""

import numpy as np
import pytest

from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.data.tasks.needle import DISTRACTOR
from assay.data.worded.dataset import TextTaskDataset
from assay.errors import RequestError
from assay.targets import IGNORED
from oracles import BABBLE, worded


def text_of(dataset: TextTaskDataset, ids: np.ndarray) -> str:
    assert dataset.tokenizer is not None
    return dataset.tokenizer.decode([int(number) for number in ids])


def test_a_sequence_is_its_text_and_the_answer_the_only_target() -> None:
    dataset = worded("needle:distractors=2,depth=0.5")
    inputs, targets = dataset.batches(128, 8, 0, "shuffled").batch(0)
    for row, asked in zip(inputs, targets, strict=True):
        places = np.flatnonzero(asked != IGNORED)
        answer = text_of(dataset, asked[places])
        read = text_of(dataset, row[: places[0] + 1])
        first, fact, second, question = read.replace("? ", "?").split(". ")[0:4]
        assert (first, second) == ("The sky is blue", "The sky is blue")
        assert fact.split()[3] == answer.strip()
        assert question == f"What does {fact.split()[0]} have?"
        assert text_of(dataset, row[places[0] + 1 : places[-1] + 1]) == answer[:-1], "the answer is read as it is given"
        assert list(places) == list(range(places[0], places[-1] + 1))


def test_it_is_refused_where_it_does_not_fit_and_fits_where_it_is_not() -> None:
    dataset = worded("needle:distractors=20,needles=3")
    shortest = dataset.task.shortest(dataset.axes)
    dataset.refuse(shortest, "shuffled", 100)
    with pytest.raises(RequestError, match=f"--context {shortest - 1}: needle:.* needs at least {shortest} tokens"):
        dataset.refuse(shortest - 1, "shuffled", 100)
    lengths = dataset.held_out("test", shortest, 2000).lengths
    assert lengths.max() <= shortest <= lengths.max() + 12, "and it is no wider than what is drawn"


@pytest.mark.parametrize(("depth", "third"), [(0.0, "early"), (0.5, "middle"), (1.0, "late")])
@pytest.mark.parametrize("kind", ["facts", "passkey"])
def test_a_needle_lies_at_its_depth(depth: float, third: str, kind: str) -> None:
    dataset = worded(f"needle:kind={kind},depth={depth}")
    for example in dataset.examples("test", 700, 20):
        assert example.levels == {"depth": third}
        (place,) = example.facts
        assert example.answer.strip() in str(example.pieces[place])


def test_without_a_depth_it_lies_anywhere() -> None:
    thirds = [example.levels["depth"] for example in worded("needle").examples("test", 512, 300)]
    assert all(70 < thirds.count(third) < 130 for third in ("early", "middle", "late"))


def test_a_curriculum_takes_equal_parts_of_training_and_the_test_is_at_full_difficulty() -> None:
    dataset = worded("needle:curriculum=true,distractors=20")
    batches = dataset.batches(512, 4, 0, "shuffled", steps=10)
    width = len(DISTRACTOR)
    counts = [text_of(dataset, batches.batch(step).inputs[0]).count("sky") for step in range(10)]
    assert counts == [0, 0, 2, 2, 6, 6, 10, 10, 20, 20]
    lengths = dataset.held_out("test", 512, 200).lengths
    assert (lengths > 20 * width).all()
    assert dataset.trained_on(512, 4, 0, 8).lengths.min() > 20 * width, "what is recalled of training is, too"
    assert worded("needle:curriculum=true").axes.sentences == 100


def test_several_needles_are_of_different_names_and_one_is_asked() -> None:
    for example in worded("needle:needles=4").examples("test", 512, 20):
        assert len({name for name, _ in example.pairs}) == len({value for _, value in example.pairs}) == 4
        assert example.pairs[0][0] in str(example.pieces[-1])
        assert f" {example.pairs[0][1]}" == example.answer


@pytest.mark.parametrize("kind", ["number", "uuid"])
@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:320"])
def test_numbers_lie_between_sentences_of_the_corpus(kind: str, tokenizer: str) -> None:
    dataset = worded(f"needle:kind={kind},needles=2", corpus=BABBLE, tokenizer=tokenizer)
    dataset.refuse(640, "shuffled", 100)
    held_out = dataset.held_out("test", 640, 300)
    assert held_out.lengths.min() > 600, "the context is filled"
    for example in dataset.examples("test", 640, 10):
        (place,) = example.facts
        assert example.answer.strip() in str(example.pieces[place])
        before = example.pieces[place - 1]
        assert isinstance(before, str) or text_of(dataset, before).endswith((".", ":"))
        assert len(set(example.candidates)) == 8


def test_the_digest_is_of_task_tokenizer_and_mixture() -> None:
    asked = [
        {}, {"tokenizer": "bpe:320", "corpus": BABBLE}, {"mix": 0.5, "corpus": BABBLE},
        {"mix": 0.25, "corpus": BABBLE}, {"mix": 0.5, "task_weight": 0.5, "corpus": BABBLE},
    ]  # fmt: skip
    assert len({worded("needle", **data).digest for data in asked}) == len(asked)
    assert worded("needle:depth=0").digest != worded("needle").digest == worded("needle:needles=1").digest


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"task": "needle", "corpus": "text:x"}, "--corpus text:x: needle takes no text with --tokenizer bytes"),
        ({"task": "copying", "mix": 0.5}, "data.mix 0.5: the ids of copying stand for no text"),
        ({"task": "copying", "tokenizer": "bpe:512"}, "--tokenizer bpe:512: is about a text, and --task copying makes"),
        ({"mix": 0.5}, "data.mix 0.5: there is nothing to mix the text with"),
        ({"task": "needle", "task_weight": 0.5}, "data.task_weight 0.5: nothing is mixed"),
        ({"task": "needle:kind=uuid,curriculum=true"}, "--task needle:kind=uuid,curriculum=true: curriculum=True: "),
        ({"task": "needle:distractors=3,length=64"}, "--task needle:distractors=3,length=64: length=64: 3 distractors"),
        ({"task": "needle:needles=9"}, "--task needle:needles=9: needles: 9 given"),
    ],
)
def test_a_wrong_request_is_one_line(data: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        load_dataset(DataConfig.parse(data), print)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
