"""Parity, modular sums and permutations: answers are what was read comes to, floors what counting gives."""

from itertools import permutations

import numpy as np
import pytest

from assay.data.questions import EVERYTHING
from assay.data.tasks.permutations import after_swaps, moves_of
from assay.errors import RequestError
from assay.evaluation import controls
from assay.evaluation.controls import control_accuracies
from assay.targets import IGNORED
from oracles import Guess, measured, task


@pytest.fixture(autouse=True)
def _small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls are tested elsewhere."""
    monkeypatch.setattr(controls, "COUNTED_TARGETS", 2_048)


ARRANGEMENTS = {n: list(permutations(range(n))) for n in (3, 4, 5)}


def come_to(text: str, read: list[int]) -> list[int]:
    """What elements come to one by one, by other means than the tasks'."""
    if text.startswith("permutations"):
        objects = 3 if "objects=3" in text else 5
        now, answers = tuple(range(objects)), []
        for element in read:
            now = tuple(now[place] for place in ARRANGEMENTS[objects][element])
            answers.append(ARRANGEMENTS[objects].index(now))
        return answers
    modulus = 2 if text.startswith("parity") else 7
    return [sum(read[: end + 1]) % modulus for end in range(len(read))]


TEXTS = [
    "parity:length=9",
    "parity:length=9,targets=last",
    "modular_sum:modulus=7,length=9",
    "permutations:objects=3,length=9",
    "permutations:length=9",
    "permutations:swaps=true,length=9",
]


@pytest.mark.parametrize("text", TEXTS)
def test_answers_are_what_was_read_comes_to(text: str) -> None:
    windows = task(text).held_out("test", 12, 90)
    for ids, targets in zip(windows.inputs, windows.targets, strict=True):
        answers = come_to(text, (ids[:9] - 1).tolist())
        asked = np.flatnonzero(targets != IGNORED).tolist()
        assert asked == ([8] if "last" in text else list(range(9)))
        assert (targets[asked] - 1).tolist() == [answers[t] for t in asked]
        assert ids[9:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("text", TEXTS)
def test_perfect_tracking_answers_everything(text: str) -> None:
    def guess(inputs: np.ndarray) -> np.ndarray:
        return np.array([[1 + answer for answer in come_to(text, (ids - 1).tolist())] for ids in inputs])

    values = measured("answers", guess, task(text), 9, 300)
    assert (values.accuracy, values.training_accuracy) == (1.0, 1.0)
    assert not [stretch for stretch in values.stretches if stretch.axis == "distance"], "all of it is needed"
    if "last" not in text:
        assert [stretch.first for stretch in values.stretches if stretch.axis == "read"] == list(range(1, 10))


def odd(objects: int) -> np.ndarray:
    """Whether each arrangement is an odd permutation."""
    pairs = [(i, j) for j in range(objects) for i in range(j)]
    return np.array([sum(a[i] > a[j] for i, j in pairs) % 2 for a in ARRANGEMENTS[objects]])


def counting_odd_moves(objects: int) -> Guess:
    """Says any arrangement of the half that the number of odd moves leaves."""
    is_odd, generator = odd(objects), np.random.default_rng(0)
    halves = [np.flatnonzero(is_odd == half) for half in (0, 1)]

    def guess(inputs: np.ndarray) -> np.ndarray:
        half = is_odd[inputs - 1].cumsum(axis=1) % 2
        any_of = generator.integers(0, len(halves[0]), inputs.shape)
        return 1 + np.where(half == 0, halves[0][any_of], halves[1][any_of])

    return guess


@pytest.mark.parametrize("objects", [3, 5])
def test_who_counts_odd_moves_gets_the_floor(objects: int) -> None:
    values = measured("answers", counting_odd_moves(objects), task(f"permutations:objects={objects},length=12"), 12)
    assert values.bag_floor == pytest.approx(2 / len(ARRANGEMENTS[objects]))
    assert values.uniform_floor == pytest.approx(1 / len(ARRANGEMENTS[objects]))
    assert values.low <= values.bag_floor <= values.high


def test_the_likeliest_arrangement_after_so_many_swaps_is_the_floor() -> None:
    dataset = task("permutations:swaps=true,length=8")
    windows = dataset.held_out("test", 8, 8 * 20_000)
    questions = dataset.questions(windows)
    assert questions is not None
    floor = questions.bag[0]
    right = (windows.targets - 1 == after_swaps(5, 8).argmax(axis=1)).mean(axis=0)
    assert (np.abs(right - floor) < 4 * np.sqrt(floor * (1 - floor) / len(windows.targets))).all()
    assert floor[:2].tolist() == pytest.approx([0.1, 0.1])
    assert 1 / 60 < floor[-1] < 0.018


@pytest.mark.parametrize(("text", "elements"), [("parity", 2), ("modular_sum:modulus=7", 7)])
def test_where_order_says_nothing_the_bag_is_uniform(text: str, elements: int) -> None:
    generator = np.random.default_rng(0)
    values = measured("answers", lambda ids: generator.integers(1, 1 + elements, ids.shape), task(text), 40)
    assert values.uniform_floor == values.bag_floor == pytest.approx(1 / elements)
    assert values.low <= values.bag_floor <= values.high


def test_chance_is_the_entropy_of_the_arrangement() -> None:
    """After one swap one of ten; after two the one it began with, a rotation of three, or two swaps apart."""
    of_two = [0.1, *[3 / 100] * 20, *[2 / 100] * 15]
    assert sum(of_two) == pytest.approx(1)
    every, last = (task(f"permutations:swaps=true,length=2,targets={targets}") for targets in ("every", "last"))
    entropy = -sum(chance * np.log(chance) for chance in of_two)
    assert last.task.chance_nats(last.axes) == pytest.approx(entropy)
    assert every.task.chance_nats(every.axes) == pytest.approx((np.log(10) + entropy) / 2)
    far = task("permutations:swaps=true,length=60,targets=last")
    assert far.task.chance_nats(far.axes) == pytest.approx(np.log(60), abs=1e-6)


def test_moves_are_a_group() -> None:
    product, swaps = moves_of(4)
    assert sorted(map(len, map(set, product.tolist()))) == [24] * 24
    assert product[0].tolist() == product[:, 0].tolist() == list(range(24))
    assert len(swaps) == 6
    assert (product[swaps, swaps] == 0).all()
    a, b, c = np.random.default_rng(0).integers(0, 24, (3, 100))
    assert (product[product[a, b], c] == product[a, product[b, c]]).all()


def test_training_draws_all_lengths_and_the_test_has_the_whole_one() -> None:
    dataset = task("parity:length=6,targets=last,at_most=true")
    trained = dataset.batches(8, 600, 0, "shuffled").batch(0)
    asked = trained.targets != IGNORED
    assert (asked.sum(axis=1) == 1).all()
    lengths = 1 + asked.argmax(axis=1)
    assert np.bincount(lengths, minlength=7)[1:].min() > 60, "each length is as likely"
    assert ((trained.inputs > 0).sum(axis=1) == lengths).all(), "what is asked about ends there"
    for split in ("validation", "test"):
        held_out = dataset.held_out(split, 8, 50)
        assert set((1 + (held_out.targets != IGNORED).argmax(axis=1)).tolist()) == {6}
    exactly = task("parity:length=6,targets=last").held_out("test", 8, 50)
    assert np.array_equal(exactly.inputs, dataset.held_out("test", 8, 50).inputs), "both are tested alike"


def test_tables_are_counted_at_the_length_of_the_test() -> None:
    """After an odd number of swaps only half of the arrangements are left, which shorter sequences would not show."""
    found = []
    for axes in ("", ",at_most=true"):
        dataset = task(f"permutations:objects=3,swaps=true,length=5,targets=last{axes}")
        found.append(control_accuracies(dataset, dataset.held_out("test", 5, 300)))
    assert found[0] == found[1]
    assert found[0]["unigram"] > 0.25


def test_a_window_that_holds_all_of_it_is_enough() -> None:
    dataset = task("parity:length=6")
    questions = dataset.questions(dataset.held_out("test", 6, 6))
    assert questions is not None
    assert (questions.distance == EVERYTHING).all()
    assert questions.window(3).tolist() == [[1, 1, 1, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("parity:at_most=true", "targets=every asks at each shorter length already; targets=last would do"),
        ("parity:targets=first", "targets: 'first' given, should be 'every' or 'last'"),
        ("parity:length=0", "length: 0 given"),
        ("modular_sum:modulus=1", "modulus: 1 given"),
        ("permutations:objects=6", "objects: 6 given, should be less than or equal to 5"),
    ],
)
def test_what_cannot_be_asked(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        task(text)


def test_too_short_a_context_is_refused() -> None:
    with pytest.raises(RequestError, match="--context 39: parity needs at least 40 tokens"):
        task("parity").refuse(39, "shuffled", 100)
