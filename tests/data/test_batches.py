"""Batch t is a function of (seed, t, batch size), and the chain tells when it was another."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.batches import Chain, PackedWindows, permutation
from assay.errors import RequestError

SEED = 5


def stream(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint16)


@given(st.integers(1, 9), st.integers(2, 200), st.integers(1, 7), st.integers(0, 3))
@settings(deadline=None, max_examples=60, database=None)
def test_an_epoch_has_every_window_once_whatever_the_batch_size(context: int, n: int, batch: int, seed: int) -> None:
    n = max(n, context + 1)
    windows = PackedWindows(stream(n), context, seed)
    per_epoch = (n - 1) // context
    assert windows.windows == per_epoch
    steps = -(-2 * per_epoch // batch)
    rows = np.concatenate([windows.batch(step, batch) for step in range(steps)])
    assert (np.diff(rows, axis=1) == 1).all(), "a window is a stretch of the stream"
    for epoch in range(2):
        firsts = rows[epoch * per_epoch : (epoch + 1) * per_epoch, 0]
        assert sorted(firsts.tolist()) == [number * context for number in range(per_epoch)]
    other = PackedWindows(stream(n), context, seed)
    one_by_one = np.concatenate([other.batch(step, 1) for step in range(steps * batch)])
    assert np.array_equal(one_by_one, rows), "the order does not depend on the batch size"


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    windows = PackedWindows(stream(1_000), 7, SEED)
    forward = [windows.batch(step, 8) for step in range(60)]
    for step in (59, 3, 40, 3, 0):
        assert np.array_equal(windows.batch(step, 8), forward[step])
        assert np.array_equal(PackedWindows(stream(1_000), 7, SEED).batch(step, 8), forward[step])
    assert forward[0].dtype == np.int64
    assert forward[0].shape == (8, 8)


def test_seeds_and_epochs_are_shuffled_apart() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        first: list[int] = PackedWindows(stream(401), 4, seed).batch(epoch, 100)[:, 0].tolist()
        return first

    orders = [order(SEED, 0), order(SEED, 1), order(SEED + 1, 0), sorted(order(SEED, 0))]
    assert len({tuple(each) for each in orders}) == 4


def test_sequential_windows_come_in_order_again_and_again() -> None:
    windows = PackedWindows(stream(22), 5, SEED, "sequential")
    firsts = [windows.batch(step, 3)[:, 0].tolist() for step in range(3)]
    assert firsts == [[0, 5, 10], [15, 0, 5], [10, 15, 0]]


def test_the_order_is_the_same_on_every_machine() -> None:
    assert permutation(8, 1).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]


def test_too_short_a_stream_says_what_is_needed() -> None:
    assert PackedWindows(stream(9), 8, SEED).windows == 1
    with pytest.raises(RequestError) as caught:
        PackedWindows(stream(8), 8, SEED)
    assert str(caught.value) == (
        "--context 8: the training split has 8 tokens and one window needs 9; "
        "--context 7 or less, or a longer text would do"
    )
    with pytest.raises(RequestError, match="--context 0"):
        PackedWindows(stream(8), 0, SEED)


def test_the_chain_is_its_formula() -> None:
    batch = np.array([[1, 2, 3], [4, 5, 60_000]])
    values = b"".join(int(number).to_bytes(8, "little") for number in (2, 3, 1, 2, 3, 4, 5, 60_000))
    expected = hashlib.sha256(b"\0" * 32 + values).hexdigest()
    chain = Chain()
    assert chain.update(batch) == chain.head == expected
    resumed = Chain(expected)
    assert resumed.update(batch) == chain.update(batch) != expected


def test_the_chain_sees_values_shape_and_order() -> None:
    a, b = np.arange(6).reshape(2, 3), np.arange(6, 12).reshape(2, 3)
    heads = set()
    for batches in ([a, b], [b, a], [a, b.reshape(3, 2)], [a, b.T], [a, b + (b == 11)], [a], [a, b, b]):
        chain = Chain()
        for batch in batches:
            chain.update(batch)
        heads.add(chain.head)
    assert len(heads) == 7
