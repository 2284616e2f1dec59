"""The n-gram floors: they are distributions, they follow their formulas, and they see no further than a window."""

import time

import numpy as np
import pytest

from assay.data.scoring import ScoringWindows
from assay.evaluation.corpus.floors import ngram_floors
from assay.targets import IGNORED

SEED = 3


def windows_of(inputs: list[list[int]], targets: list[list[int]]) -> ScoringWindows:
    """Rows as they are; document, offset and bytes play no part here."""
    rows = len(inputs)
    return ScoringWindows(
        np.array(inputs), np.array(targets), np.arange(rows), np.arange(rows), np.zeros(rows, int), np.zeros(rows, int)
    )


def markov(generator: np.random.Generator, rows: int, length: int, vocab_size: int) -> np.ndarray:
    """Sequences in which the next token is mostly the sum of the two before, modulo the vocabulary."""
    tokens = generator.integers(0, vocab_size, (rows, length))
    for place in range(2, length):
        rule = (tokens[:, place - 2] + tokens[:, place - 1]) % vocab_size
        tokens[:, place] = np.where(generator.random(rows) < 0.8, rule, tokens[:, place])
    return tokens


def as_windows(sequences: np.ndarray) -> ScoringWindows:
    return windows_of(sequences[:, :-1].tolist(), sequences[:, 1:].tolist())


def all_continuations(history: list[int], vocab_size: int) -> ScoringWindows:
    """One row for each token of the vocabulary after `history`; the other targets are padded away."""
    padding = [IGNORED] * (len(history) - 1)
    return windows_of([history] * vocab_size, [[*padding, token] for token in range(vocab_size)])


VOCABULARY = 7


@pytest.fixture(scope="module")
def sequences() -> tuple[np.ndarray, ScoringWindows]:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 30, 12, VOCABULARY - 1)  # the last token of the vocabulary never occurs
    return train, as_windows(markov(generator, 20, 12, VOCABULARY - 1))


HISTORIES = [[a, b] for a in range(VOCABULARY) for b in range(VOCABULARY)] + [[a] for a in range(VOCABULARY)]


@pytest.mark.parametrize("floor", ["unigram", "trigram"])
def test_probabilities_sum_to_one_after_every_history(floor: str, sequences: tuple[np.ndarray, ScoringWindows]) -> None:
    train, validation = sequences
    for history in HISTORIES:
        nats = ngram_floors(train, validation, all_continuations(history, VOCABULARY), VOCABULARY)[floor]
        assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-12)
        assert np.isfinite(nats).all()


def test_unigram_is_add_one_over_targets() -> None:
    train = np.array([[3, 0, 0, 1], [3, 0, 1, 2]])  # targets: 0 three times, 1 twice, 2 once, 3 never
    test = windows_of([[0, 0, 0, 0, 0]], [[0, 1, 2, 3, IGNORED]])
    nats = ngram_floors(train, test, test, 4)["unigram"]
    assert np.exp(-nats) == pytest.approx(np.array([4, 3, 2, 1]) / 10)


def test_trigram_is_the_mixture_its_definition_says() -> None:
    """One bucket, fitted on one event: the weights follow by hand from one pseudo-count each."""
    train = np.array([[0, 1, 2], [0, 1, 1]])
    event = windows_of([[0, 1]], [[IGNORED, 2]])
    # After (0, 1), seen twice: uniform 1/3, unigram 1/4, bigram 1 of 2, trigram 1 of 2.
    components = np.array([1 / 3, 1 / 4, 1 / 2, 1 / 2])
    weights = np.full(4, 1 / 4)
    for _ in range(30):
        shares = weights * components / (weights @ components)
        weights = (shares + 1) / 5
    nats = ngram_floors(train, event, event, 3)["trigram"]
    assert nats == pytest.approx([-np.log(weights @ components)], abs=1e-12)


def test_trigram_uses_two_tokens_where_they_tell() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 2_000, 12, 6)
    validation, test = (as_windows(markov(generator, 200, 12, 6)) for _ in range(2))
    floors = ngram_floors(train, validation, test, 6)
    by_position = {name: nats.reshape(200, 11).mean(axis=0) for name, nats in floors.items()}
    entropy = -(0.8 + 0.2 / 6) * np.log(0.8 + 0.2 / 6) - 5 * (0.2 / 6) * np.log(0.2 / 6)
    assert by_position["trigram"][1:].mean() == pytest.approx(entropy, abs=0.05)
    assert by_position["trigram"][0] == pytest.approx(np.log(6), abs=0.05), "one token alone tells nothing here"
    assert by_position["unigram"].mean() == pytest.approx(np.log(6), abs=0.05)


def test_a_window_hides_what_was_before_it() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 500, 12, 6)
    validation = as_windows(markov(generator, 100, 12, 6))
    whole = windows_of([[1, 2, 3, 5]], [[2, 3, 5, 2]])
    cut = windows_of([[1, 2], [3, 5]], [[2, 3], [5, 2]])
    a = ngram_floors(train, validation, whole, 6)["trigram"]
    b = ngram_floors(train, validation, cut, 6)["trigram"]
    assert a[[0, 1, 3]] == pytest.approx(b[[0, 1, 3]])
    assert a[2] < b[2] - 0.5, "5 follows 2, 3, which the second window does not know of"


def test_targets_come_in_row_order_without_padding(sequences: tuple[np.ndarray, ScoringWindows]) -> None:
    train, validation = sequences
    rows = windows_of([[0, 1, 2], [3, 0, 0]], [[1, 2, 3], [4, IGNORED, IGNORED]])
    apart = [windows_of([[0, 1, 2]], [[1, 2, 3]]), windows_of([[3]], [[4]])]
    for name, nats in ngram_floors(train, validation, rows, VOCABULARY).items():
        expected = [ngram_floors(train, validation, each, VOCABULARY)[name] for each in apart]
        assert nats == pytest.approx(np.concatenate(expected))


def test_context_of_one_has_no_trigrams_and_works() -> None:
    train = np.array([[0, 1], [1, 0], [0, 1]])
    test = windows_of([[0], [1]], [[1], [1]])
    assert np.isfinite(ngram_floors(train, test, test, 3)["trigram"]).all()


def test_two_hundred_thousand_tokens_take_less_than_two_seconds() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 800, 257, 4_096)
    validation, test = (as_windows(markov(generator, 240, 257, 4_096)) for _ in range(2))
    before = time.process_time()
    ngram_floors(train, validation, test, 4_096)
    assert time.process_time() - before < 2
