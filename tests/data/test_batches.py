"""Batch t is a function of (seed, t) alone, and the hash chain shows any other batch."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.batches import Batch, Chain, PackedWindows, permutation
from assay.errors import RequestError
from assay.targets import IGNORED

SEED = 5


def whole(batch: Batch) -> np.ndarray:
    """[B, T + 1]: the windows that inputs and targets were cut from."""
    return np.concatenate([batch.inputs, batch.targets[:, -1:]], 1)


def stream(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint16)


@given(st.integers(1, 9), st.integers(2, 200), st.integers(1, 7), st.integers(0, 3))
@settings(deadline=None, max_examples=60, database=None)
def test_an_epoch_has_every_window_once_whatever_the_batch_size(context: int, n: int, batch: int, seed: int) -> None:
    n = max(n, context + 1)
    windows = PackedWindows(stream(n), context, batch, seed)
    per_epoch = (n - 1) // context
    assert windows.windows == per_epoch
    steps = -(-2 * per_epoch // batch)
    rows = np.concatenate([whole(windows.batch(step)) for step in range(steps)])
    assert (np.diff(rows, axis=1) == 1).all(), "a window is a stretch of the stream"
    for epoch in range(2):
        firsts = rows[epoch * per_epoch : (epoch + 1) * per_epoch, 0]
        assert sorted(firsts.tolist()) == [number * context for number in range(per_epoch)]
    other = PackedWindows(stream(n), context, 1, seed)
    one_by_one = np.concatenate([whole(other.batch(step)) for step in range(steps * batch)])
    assert np.array_equal(one_by_one, rows), "the order does not depend on the batch size"


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    windows = PackedWindows(stream(1_000), 7, 8, SEED)
    forward = [whole(windows.batch(step)) for step in range(60)]
    for step in (59, 3, 40, 3, 0):
        assert np.array_equal(whole(windows.batch(step)), forward[step])
        assert np.array_equal(whole(PackedWindows(stream(1_000), 7, 8, SEED).batch(step)), forward[step])
    inputs, targets = windows.batch(0)
    assert inputs.dtype == targets.dtype == np.int64
    assert inputs.shape == targets.shape == (8, 7)
    assert np.array_equal(inputs[:, 1:], targets[:, :-1]), "a target is the token after its input"
    assert windows.batch(0).scored == 56


def test_seeds_and_epochs_are_shuffled_apart() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        first: list[int] = PackedWindows(stream(401), 4, 100, seed).batch(epoch).inputs[:, 0].tolist()
        return first

    orders = [order(SEED, 0), order(SEED, 1), order(SEED + 1, 0), sorted(order(SEED, 0))]
    assert len({tuple(each) for each in orders}) == 4


def test_sequential_windows_come_in_order_again_and_again() -> None:
    windows = PackedWindows(stream(22), 5, 3, SEED, "sequential")
    firsts = [windows.batch(step).inputs[:, 0].tolist() for step in range(3)]
    assert firsts == [[0, 5, 10], [15, 0, 5], [10, 15, 0]]


def test_the_order_is_the_same_on_every_machine() -> None:
    assert permutation(8, 1).tolist() == [2, 4, 7, 5, 0, 6, 3, 1]


def test_too_short_a_stream_says_what_is_needed() -> None:
    assert PackedWindows(stream(9), 8, 1, SEED).windows == 1
    with pytest.raises(RequestError) as caught:
        PackedWindows(stream(8), 8, 1, SEED)
    assert str(caught.value) == (
        "--context 8: the training split has 8 tokens and one window needs 9; "
        "--context 7 or less, or a longer text would do"
    )
    with pytest.raises(RequestError, match="--context 0"):
        PackedWindows(stream(8), 0, 1, SEED)


def test_the_chain_is_its_formula() -> None:
    batch = Batch(np.array([[1, 2, 3], [4, 5, 60_000]]), np.array([[2, 3, 7], [5, 60_000, IGNORED]]))
    numbers = (2, 3, 1, 2, 3, 4, 5, 60_000, 2, 3, 2, 3, 7, 5, 60_000, IGNORED)
    values = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
    expected = hashlib.sha256(b"\0" * 32 + values).hexdigest()
    chain = Chain()
    assert chain.update(batch) == chain.head == expected
    resumed = Chain(expected)
    assert resumed.update(batch) == chain.update(batch) != expected


def test_the_chain_sees_values_shape_and_order() -> None:
    a, b = np.arange(6).reshape(2, 3), np.arange(6, 12).reshape(2, 3)
    heads = set()
    for batches in ([a, b], [b, a], [a, b.reshape(3, 2)], [a, b.T], [a, b + (b == 11)], [a], [a, b, b]):
        for targets in (0, 1):
            chain = Chain()
            for batch in batches:
                chain.update(Batch(batch, batch + targets))
            heads.add(chain.head)
    assert len(heads) == 14
