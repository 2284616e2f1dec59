"""Every byte is scored exactly once, in a window of its own document."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.scoring import ScoringWindows, scoring_windows
from assay.data.text.tokenized import TokenizedSplit
from assay.errors import RequestError
from assay.targets import IGNORED

BOS, EOS, VOCABULARY = 0, 1, 30
SEED = 9
TOKEN_BYTES = np.array([0, 0, *range(1, VOCABULARY - 1)])


def split_of(lengths: list[int], seed: int = SEED) -> TokenizedSplit:
    """Documents of that many tokens between BOS and EOS."""
    generator = np.random.default_rng(seed)
    documents = [np.array([BOS, *generator.integers(2, VOCABULARY, length), EOS]) for length in lengths]
    return TokenizedSplit(
        np.concatenate(documents).astype(np.uint16),
        np.cumsum([0, *map(len, documents)]),
        np.array([TOKEN_BYTES[document].sum() for document in documents]),
        [str(number) for number in range(len(lengths))],
        np.arange(len(lengths)) // 2,
    )


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(LENGTHS, st.integers(1, 17))
@settings(deadline=None, max_examples=80, database=None)
def test_every_token_after_bos_is_a_target_once_and_every_byte_counts_once(lengths: list[int], context: int) -> None:
    split = split_of(lengths)
    windows = scoring_windows(split, context, TOKEN_BYTES, SEED)
    scored: list[int] = []
    for row in range(len(windows.document)):
        real = windows.targets[row] != IGNORED
        length = int(real.sum())
        assert length
        assert real[:length].all(), "padding is at the end"
        place = int(split.starts[windows.document[row]] + windows.offset[row])
        assert place + length < split.starts[windows.document[row] + 1], "a window lies within its document"
        assert windows.inputs[row, :length].tolist() == split.ids[place : place + length].tolist()
        assert windows.targets[row, :length].tolist() == split.ids[place + 1 : place + length + 1].tolist()
        assert windows.offset[row] % context == 0
        assert windows.bytes[row] == TOKEN_BYTES[split.ids[place + 1 : place + length + 1]].sum()
        scored += range(place + 1, place + length + 1)
    everything = set(range(len(split.ids))) - set(split.starts[:-1].tolist())
    assert sorted(scored) == sorted(everything)
    by_document = np.bincount(windows.document, windows.bytes, minlength=len(lengths))
    assert by_document.tolist() == split.document_bytes.tolist()


@given(LENGTHS, st.integers(1, 17), st.integers(1, 200))
@settings(deadline=None, max_examples=60, database=None)
def test_a_cap_takes_whole_windows_and_grows_by_adding(lengths: list[int], context: int, cap: int) -> None:
    split = split_of(lengths)
    everything = scoring_windows(split, context, TOKEN_BYTES, SEED)

    def chosen(windows: ScoringWindows) -> set[tuple[int, int, bytes]]:
        rows = zip(windows.document.tolist(), windows.offset.tolist(), windows.targets, strict=True)
        return {(document, offset, targets.tobytes()) for document, offset, targets in rows}

    capped = scoring_windows(split, context, TOKEN_BYTES, SEED, cap)
    larger = scoring_windows(split, context, TOKEN_BYTES, SEED, cap + context)
    assert chosen(capped) <= chosen(larger) <= chosen(everything)
    tokens = int((capped.targets != IGNORED).sum())
    total = int((everything.targets != IGNORED).sum())
    assert tokens <= cap or len(capped.document) == 1
    assert tokens > cap - context or tokens == total
    assert (np.diff(capped.document) >= 0).all()


def test_the_sample_depends_on_the_seed_alone() -> None:
    split = split_of([40] * 30)
    one, again, other = (scoring_windows(split, 8, TOKEN_BYTES, seed, 200) for seed in (1, 1, 2))
    assert np.array_equal(one.inputs, again.inputs)
    assert not np.array_equal(one.document, other.document)


@given(LENGTHS, st.integers(1, 17), st.integers(1, 5))
@settings(deadline=None, max_examples=40, database=None)
def test_batches_hold_every_target_once_without_needless_padding(lengths: list[int], context: int, size: int) -> None:
    windows = scoring_windows(split_of(lengths), context, TOKEN_BYTES, SEED)
    found = np.full_like(windows.targets, IGNORED)
    seen: list[int] = []
    longest_before = context
    for rows, inputs, targets in windows.batches(size):
        assert len(rows) == size or len(seen) + len(rows) == len(windows.document)
        assert inputs.shape == targets.shape
        assert (targets != IGNORED).any(axis=0).all(), "no column of padding alone"
        assert targets.shape[1] <= longest_before
        longest_before = targets.shape[1]
        assert np.array_equal(inputs, windows.inputs[rows, : inputs.shape[1]])
        found[rows, : targets.shape[1]] = targets
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(windows.document)))
    assert np.array_equal(found, windows.targets)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(RequestError, match="--context 0"):
        scoring_windows(split_of([3]), 0, TOKEN_BYTES, SEED)
    with pytest.raises(RequestError, match="0 tokens to score"):
        scoring_windows(split_of([3]), 4, TOKEN_BYTES, SEED, 0)


def test_windows_know_the_sources_of_their_documents() -> None:
    windows = scoring_windows(split_of([9, 3, 20, 5]), 8, TOKEN_BYTES, SEED)
    assert windows.source.tolist() == (windows.document // 2).tolist()
    assert set(windows.source.tolist()) == {0, 1}
