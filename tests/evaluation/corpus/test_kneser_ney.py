"""Modified Kneser-Ney against its definition with dictionaries, and as a distribution, by brute force."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from assay.evaluation.corpus.kneser_ney import FEW_COUNTS, estimate_discounts, orders

V = 4
LENGTH = 6


class ByDefinition:
    """Chen and Goodman's formulas word by word: slow, and nothing shared with the code under test."""

    def __init__(self, windows: Sequence[Sequence[int]]) -> None:
        self.occurrences: dict[tuple[int, ...], int] = Counter()
        before = defaultdict(set)
        for window in windows:
            for end in range(2, len(window) + 1):
                for start in range(end):
                    self.occurrences[tuple(window[start:end])] += 1
                    if start:
                        before[tuple(window[start:end])].add(window[start - 1])
        self.continuations = {ngram: len(tokens) for ngram, tokens in before.items()}

    def probability(self, history: Sequence[int], token: int, order: int) -> float:
        order = min(order, len(history) + 1)
        return self._of(tuple(history)[len(history) - order + 1 :], token, self.occurrences)

    def _of(self, history: tuple[int, ...], token: int, counts: dict[tuple[int, ...], int]) -> float:
        lower = self._of(history[1:], token, self.continuations) if history else 1 / V
        total = sum(counts.get((*history, other), 0) for other in range(V))
        if total == 0:
            return lower
        once, twice, more = self.discounts(len(history) + 1, counts)

        def taken(other: int) -> float:
            count = counts.get((*history, other), 0)
            return 0 if count == 0 else once if count == 1 else twice if count == 2 else more

        kept = max(counts.get((*history, token), 0) - taken(token), 0)
        return (kept + sum(taken(other) for other in range(V)) * lower) / total

    def discounts(self, length: int, counts: dict[tuple[int, ...], int]) -> tuple[float, float, float]:
        n = Counter(count for ngram, count in counts.items() if len(ngram) == length)
        if 0 in (n[1], n[2], n[3]):
            return FEW_COUNTS
        share = n[1] / (n[1] + 2 * n[2])
        d1, d2, d3 = (k - (k + 1) * share * n[k + 1] / n[k] for k in (1, 2, 3))
        return (d1, d2, d3) if 0 < d1 < 1 and 0 < d2 < 2 and 0 < d3 < 3 else FEW_COUNTS


def windows(most: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, V - 1), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=most)


def skewed(rows: int) -> list[list[int]]:
    """Enough n-grams of every count that all discounts follow from the formula."""
    draws = np.random.default_rng(0).choice(V, p=[0.55, 0.25, 0.15, 0.05], size=(rows, LENGTH))
    return [list(map(int, row)) for row in draws]


@hypothesis.given(windows(30), windows(4))
@hypothesis.example(skewed(30), skewed(3))
@hypothesis.settings(max_examples=60, deadline=None)
def test_it_is_the_definition(train: list[list[int]], scored: list[list[int]]) -> None:
    definition = ByDefinition(train)
    models = list(orders(np.array(train), np.array(scored), V))
    assert len(models) == LENGTH
    for order, model in enumerate(models, 1):
        expected = [[definition.probability(row[:at], row[at], order) for at in range(1, LENGTH)] for row in scored]
        assert model.probabilities == pytest.approx(np.array(expected), rel=1e-12)
        for length, discounts in enumerate(model.discounts, 1):
            counts = definition.occurrences if length == order else definition.continuations
            assert discounts == pytest.approx(definition.discounts(length, counts))


@pytest.mark.parametrize("train", [skewed(30), skewed(2), [[0] * LENGTH]], ids=["thirty", "two", "one token"])
def test_probabilities_sum_to_one_after_every_history(train: list[list[int]]) -> None:
    """Every history of up to three tokens, in every order, over all tokens."""
    for history in (h for n in (1, 2, 3) for h in itertools.product(range(V), repeat=n)):
        rows = [[*history, token, *[0] * (LENGTH - len(history) - 1)] for token in range(V)]
        for model in orders(np.array(train), np.array(rows), V):
            after = model.probabilities[:, len(history) - 1]
            assert after.sum() == pytest.approx(1, abs=1e-12)
            assert after.min() > 0


def test_some_discounts_follow_the_formula_and_some_texts_are_too_short_for_it() -> None:
    # 40 once, 20 twice, 10 three times, 6 four times: 1 - 2 * 1/2 * 20/40, 2 - 3 * 1/2 * 10/20, 3 - 4 * 1/2 * 6/10
    counts = np.repeat([0, 1, 2, 3, 4, 9], [7, 40, 20, 10, 6, 3])
    assert estimate_discounts(counts) == pytest.approx((0.5, 1.25, 1.8))
    assert estimate_discounts(np.array([1, 1, 2, 5])) == FEW_COUNTS
    assert estimate_discounts(np.repeat([1, 2, 3], [1, 9, 90])) == FEW_COUNTS, "the second would be below zero"
