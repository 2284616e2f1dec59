"""Recall by hand and by brute force: which targets complete a bigram of their own window, and their mean nats."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from assay.evaluation.measurements.recall import recall_mask
from assay.targets import IGNORED
from evaluation.small import measured, tiny, windows

TOKENS = st.integers(0, 3)


def test_recall_by_the_example_of_its_docstring() -> None:
    """a b c a b a c: only the second "a b" was there before; "a c" is new, though both its tokens are not."""
    a, b, c = 0, 1, 2
    inputs = np.array([[a, b, c, a, b, a, c]])
    targets = np.array([[b, c, a, b, a, c, IGNORED]])
    assert recall_mask(inputs, targets).astype(int).tolist() == [[0, 0, 0, 1, 0, 0, 0]]


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 3), st.integers(1, 12), st.data())
def test_recall_by_brute_force(rows: int, width: int, data: st.DataObject) -> None:
    inputs = np.array(
        data.draw(st.lists(st.lists(TOKENS, min_size=width, max_size=width), min_size=rows, max_size=rows))
    )
    targets = np.array(
        data.draw(st.lists(st.lists(TOKENS, min_size=width, max_size=width), min_size=rows, max_size=rows))
    )
    for row, length in enumerate(data.draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows))):
        targets[row, length:] = IGNORED
    expected = np.zeros(inputs.shape, dtype=bool)
    for row in range(rows):
        seen = set()
        for t in range(width):
            if targets[row, t] != IGNORED:
                expected[row, t] = (inputs[row, t], targets[row, t]) in seen
            if t + 1 < width:
                seen.add((inputs[row, t], inputs[row, t + 1]))
    assert np.array_equal(recall_mask(inputs, targets), expected)


def test_recall_does_not_look_into_other_windows() -> None:
    same = np.array([[1, 2, 3]] * 2)
    assert not recall_mask(same, same + 1).any()


def test_means_are_of_recall_tokens_and_of_the_others() -> None:
    model, rows = tiny(), [[7, 8, 9], [7, 8], [7, 7, 7]]
    got = measured("recall", model, windows(rows, 2, [0, 0, 5]))
    with torch.no_grad():
        nats = [
            F.cross_entropy(model(torch.tensor([row[:-1]]))[0], torch.tensor(row[1:]), reduction="none") for row in rows
        ]
    assert got.recall_tokens == 1
    assert got.recall_nats == pytest.approx(nats[2][1].item(), rel=1e-5)
    assert got.other_nats == pytest.approx(torch.cat([nats[0], nats[1], nats[2][:1]]).mean().item(), rel=1e-5)


def test_nothing_to_recall_is_none_and_no_column_shows_a_number() -> None:
    got = measured("recall", tiny(), windows([[1, 2, 3]], 2, [0]))
    assert (got.recall_nats, got.recall_tokens) == (None, 0)
    assert got.other_nats > 0


def test_what_was_read_counts_where_nothing_was_asked() -> None:
    """a b c | a b c, asked from the bar on: "a b" and "b c" were read, what follows the bar was not."""
    a, b, c, bar = 0, 1, 2, 3
    inputs = np.array([[a, b, c, bar, a, b]])
    targets = np.array([[IGNORED, IGNORED, IGNORED, a, b, c]])
    assert recall_mask(inputs, targets).astype(int).tolist() == [[0, 0, 0, 0, 1, 1]]


def test_intervals_are_over_sources_and_around_the_means() -> None:
    rows = [[7, 8, 7, 8, index + 10] for index in range(30)]
    got = measured("recall", tiny(), windows(rows, 4, list(range(30))))
    assert got.recall_tokens == 30
    assert got.other_low < got.other_nats < got.other_high
    assert (got.recall_low + got.recall_high) / 2 == pytest.approx(got.recall_nats)
