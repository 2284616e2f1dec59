"""The n-gram floors: distributions, by their formulas; the order is validation's choice; fast and of bounded memory."""

import time
import tracemalloc

import numpy as np
import pytest

from assay.data.scoring import ScoringWindows
from assay.evaluation.corpus.floors import HIGHEST_ORDER, ngram_floors
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


@pytest.fixture(scope="module")
def sequences() -> tuple[np.ndarray, ScoringWindows]:
    generator = np.random.default_rng(SEED)
    return markov(generator, 300, 12, 6), as_windows(markov(generator, 20, 12, 6))


def test_both_are_distributions(sequences: tuple[np.ndarray, ScoringWindows]) -> None:
    """After every history of two tokens, over a vocabulary with a token that never occurs."""
    train, validation = sequences
    for history in ([a, b] for a in range(7) for b in range(7)):
        after = windows_of([history] * 7, [[IGNORED, token] for token in range(7)])
        floors = ngram_floors(train, validation, after, 7)
        assert floors.order > 1
        for nats in (floors.unigram, floors.ngram):
            assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-12)
            assert np.isfinite(nats).all()


def test_unigram_is_add_one_over_targets() -> None:
    train = np.array([[3, 0, 0, 1, 0, 0], [3, 0, 1, 2, 0, 0]])  # targets: 0 seven times, 1 twice, 2 once, 3 never
    test = windows_of([[0, 0, 0, 0, 0]], [[0, 1, 2, 3, IGNORED]])
    nats = ngram_floors(train, test, test, 4).unigram
    assert np.exp(-nats) == pytest.approx(np.array([8, 3, 2, 1]) / 14)


def test_three_tokens_where_two_tell_the_next() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 2_000, 12, 6)
    validation, test = (as_windows(markov(generator, 200, 12, 6)) for _ in range(2))
    floors = ngram_floors(train, validation, test, 6)
    assert floors.order == len(floors.discounts) == 3
    entropy = -(0.8 + 0.2 / 6) * np.log(0.8 + 0.2 / 6) - 5 * (0.2 / 6) * np.log(0.2 / 6)
    by_position = floors.ngram.reshape(200, 11).mean(axis=0)
    assert by_position[1:].mean() == pytest.approx(entropy, abs=0.05)
    assert by_position[0] == pytest.approx(np.log(6), abs=0.05), "one token alone tells nothing here"
    assert floors.unigram.mean() == pytest.approx(np.log(6), abs=0.05)


def test_the_order_is_the_choice_of_validation_alone() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 2_000, 12, 6)
    ruled, other = as_windows(markov(generator, 200, 12, 6)), as_windows(generator.integers(0, 6, (200, 12)))
    assert ngram_floors(train, ruled, other, 6).order == 3
    floors = ngram_floors(train, other, ruled, 6)
    assert floors.order == 1, "no history helps there"
    assert floors.validation_nats[0] == min(floors.validation_nats)
    assert floors.ngram.mean() == pytest.approx(floors.test_nats[0])


def test_the_longest_order_tried() -> None:
    train = np.tile(np.arange(12), (50, 1))
    same = as_windows(train[:3])
    assert len(ngram_floors(train, same, same, 12).validation_nats) == HIGHEST_ORDER
    short = as_windows(train[:3, :2])
    assert len(ngram_floors(train[:, :2], short, short, 12).validation_nats) == 2, "a window of two has no trigrams"


def test_a_window_hides_what_was_before_it() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 500, 12, 6)
    validation = as_windows(markov(generator, 100, 12, 6))
    whole = windows_of([[1, 2, 3, 5]], [[2, 3, 5, 2]])
    cut = windows_of([[1, 2], [3, 5]], [[2, 3], [5, 2]])
    a = ngram_floors(train, validation, whole, 6).ngram
    b = ngram_floors(train, validation, cut, 6).ngram
    assert a[[0, 1, 3]] == pytest.approx(b[[0, 1, 3]])
    assert a[2] < b[2] - 0.5, "5 follows 2, 3, which the second window does not know of"


def test_targets_come_in_row_order_without_padding(sequences: tuple[np.ndarray, ScoringWindows]) -> None:
    train, validation = sequences
    rows = windows_of([[0, 1, 2], [3, 0, 0]], [[1, 2, 3], [4, IGNORED, IGNORED]])
    apart = [windows_of([[0, 1, 2]], [[1, 2, 3]]), windows_of([[3]], [[4]])]
    together = ngram_floors(train, validation, rows, 7)
    for name in ("unigram", "ngram"):
        expected = [getattr(ngram_floors(train, validation, each, 7), name) for each in apart]
        assert getattr(together, name) == pytest.approx(np.concatenate(expected))


def test_windows_longer_than_those_of_training_are_refused() -> None:
    train = np.array([[0, 1], [1, 0]])
    longer = windows_of([[0, 1]], [[1, 0]])
    with pytest.raises(ValueError, match="windows of 2 tokens to score, 1 to train on"):
        ngram_floors(train, longer, longer, 2)


def test_four_hundred_thousand_tokens_take_seconds_and_a_hundred_megabytes() -> None:
    generator = np.random.default_rng(SEED)
    train = markov(generator, 1_600, 257, 4_096)
    validation, test = (as_windows(markov(generator, 120, 257, 4_096)) for _ in range(2))
    before = time.process_time()
    ngram_floors(train, validation, test, 4_096)
    assert time.process_time() - before < 3
    tracemalloc.start()
    ngram_floors(train, validation, test, 4_096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e8
