"""Tasks: the copying task itself, batches and held-out sets of any task, and what breaks the contract."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

from assay.config import Config
from assay.data.batches import Batch
from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.data.task import TASKS, Task, TaskDataset, find_task
from assay.errors import RequestError
from assay.registry import Registry
from assay.targets import IGNORED


def dataset(text: str) -> TaskDataset:
    loaded = load_dataset(DataConfig(task=text), print)
    assert isinstance(loaded, TaskDataset)
    return loaded


def test_copying_asks_for_what_was_read() -> None:
    inputs, targets = dataset("copying:symbols=5,length=3").batches(8, 4, 0, "shuffled").batch(0)
    assert inputs.shape == targets.shape == (4, 8)
    for row, asked in zip(inputs.tolist(), targets.tolist(), strict=True):
        read = row[:3]
        assert all(2 <= symbol < 7 for symbol in read)
        assert row[3:] == [1, *read[:2], 0, 0]
        assert asked == [IGNORED] * 3 + read + [IGNORED] * 2


def test_copying_fills_the_context_unless_told_otherwise() -> None:
    assert dataset("copying").batches(64, 2, 0, "shuffled").batch(0).scored == 2 * 32
    assert dataset("copying").batches(63, 2, 0, "shuffled").batch(0).scored == 2 * 31
    with pytest.raises(RequestError, match=r"--context 8: copying:length=5 needs at least 10 tokens"):
        dataset("copying:length=5").refuse(8, "shuffled", 10)


def test_its_floor_is_the_entropy_of_a_symbol() -> None:
    """Symbols are uniform: over many targets their frequencies differ from it by no more than chance allows."""
    of = dataset("copying:symbols=16")
    asked = of.held_out("test", 32, 20_000).targets
    counts = np.bincount(asked[asked != IGNORED] - 2, minlength=16)
    entropy = -(counts / counts.sum() * np.log(counts / counts.sum())).sum()
    assert of.task.chance_nats(of.axes) == math.log(16) == pytest.approx(entropy, abs=2e-3)


def test_batches_depend_on_seed_and_step_alone() -> None:
    of = dataset("copying")
    batches = of.batches(32, 4, 5, "shuffled")
    third = batches.batch(3)
    batches.batch(7)
    assert np.array_equal(batches.batch(3).inputs, third.inputs)
    assert np.array_equal(of.batches(32, 4, 5, "shuffled").batch(3).targets, third.targets)
    others = [batches.batch(4), of.batches(32, 4, 6, "shuffled").batch(3)]
    assert not any(np.array_equal(other.inputs, third.inputs) for other in others)


def test_splits_are_drawn_apart_and_alike_for_all_runs() -> None:
    of = dataset("copying")
    validation, test = of.held_out("validation", 32, 640), of.held_out("test", 32, 640)
    assert len(validation.inputs) == 640 // 16
    rows = [{tuple(row) for row in part.inputs.tolist()} for part in (validation, test)]
    trained = {tuple(row) for step in range(10) for row in of.batches(32, 4, 0, "shuffled").batch(step).inputs.tolist()}
    assert not rows[0] & rows[1]
    assert not trained & (rows[0] | rows[1])
    assert np.array_equal(of.held_out("test", 32, 640).inputs, test.inputs)
    assert len(of.held_out("test", 32, 1).inputs) == 1
    assert test.bytes.sum() == 0
    with pytest.raises(RequestError, match=r"evaluation.test_tokens: copying has no end"):
        of.refuse(32, "shuffled", None)


def test_windows_are_scored_up_to_their_last_target() -> None:
    windows = dataset("copying:length=3").held_out("test", 10, 12)
    assert windows.lengths.tolist() == [6] * 4
    for rows, inputs, targets in windows.batches(3):
        assert inputs.shape == targets.shape == (len(rows), 6)
        assert (targets != IGNORED).sum() == 3 * len(rows)


def test_the_digest_names_task_version_and_axes() -> None:
    digests = {dataset(text).digest for text in ("copying", "copying:symbols=64", "copying:length=4")}
    assert len(digests) == 2, "a default that is given is the default"


class NoAxes(Config):
    """Nothing to be made harder."""


@pytest.fixture
def tasks() -> Iterator[Registry[Task]]:
    """The registry, whose broken tasks are gone afterwards."""
    known = dict(TASKS._items)
    yield TASKS
    TASKS._items.clear()
    TASKS._items.update(known)


def constant(value: int, rows_more: int = 0, target: int = 0) -> Task:
    return Task(
        name="broken",
        summary="",
        citation="",
        axes=NoAxes,
        vocab_size=lambda _: 4,
        shortest=lambda _: 1,
        generate=lambda _, rows, context, __: Batch(
            np.full((rows + rows_more, context), value), np.full((rows + rows_more, context), target)
        ),
        chance_nats=lambda _: 0.0,
    )


def giving(made: object) -> Task:
    return dataclasses.replace(constant(0), generate=lambda *_: made)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (giving(None), "task broken: gives a NoneType; Batch(inputs, targets) would do"),
        (
            giving((np.zeros((64, 8)), np.zeros((64, 8), int))),
            "task broken: inputs are float64; whole numbers would do",
        ),
        (giving((np.zeros((64, 8), int), np.zeros((64, 8)) + 0.9)), "task broken: targets are float64"),
        (dataclasses.replace(constant(0), chance_nats=lambda _: math.nan), "task broken: chance_nats is nan"),
        (
            dataclasses.replace(
                constant(0),
                generate=lambda _, rows, context, __: Batch(
                    *(np.random.default_rng().integers(0, 4, (rows, context)) for _ in range(2))
                ),
            ),
            "task broken: the same generator gives other sequences; draw from `generator` alone",
        ),
    ],
    ids=["nothing", "fractions read", "fractions asked", "no floor", "draws elsewhere"],
)
def test_a_broken_task_is_refused_before_anything_is_trained(task: Task, message: str, tasks: Registry[Task]) -> None:
    tasks.register("broken", task)
    with pytest.raises(RequestError) as caught:
        dataset("broken").refuse(8, "shuffled", 100)
    assert message in str(caught.value)


def uneven() -> Task:
    """Row n asks n % 5 + 1 of its positions."""

    def generate(_: Config, rows: int, context: int, generator: np.random.Generator) -> Batch:
        inputs = generator.integers(0, 4, size=(rows, context))
        asked = np.arange(context) < (generator.integers(1, 6, size=(rows, 1)))
        return Batch(inputs, np.where(asked, inputs, IGNORED))

    return dataclasses.replace(constant(0), name="uneven", generate=generate)


@pytest.mark.parametrize("cap", [1, 7, 300, 1000])
def test_a_held_out_set_fits_its_cap_however_uneven_the_sequences(cap: int, tasks: Registry[Task]) -> None:
    tasks.register("uneven", uneven())
    windows = dataset("uneven").held_out("test", 8, cap)
    scored = int((windows.targets != IGNORED).sum())
    assert max(1, cap - 5) <= scored <= max(cap, 5)
    more = dataset("uneven").held_out("test", 8, cap + 500)
    assert np.array_equal(more.inputs[: len(windows.inputs)], windows.inputs), "a larger set begins like a smaller one"


def test_an_axis_may_be_called_like_anything(tasks: Registry[Task]) -> None:
    class Versions(Config):
        version: int = 7

    first = dataclasses.replace(constant(0), axes=Versions)
    digests = {
        TaskDataset("broken", task, Versions()).digest for task in (first, dataclasses.replace(first, version=2))
    }
    assert len(digests) == 2
    assert tasks is TASKS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("copyin", "--task copyin: unknown task 'copyin': did you mean 'copying'? (there is "),
        ("copying:symbol=3", "--task copying:symbol=3: unknown key 'symbol': did you mean 'symbols'?"),
        ("copying:symbols=1", "--task copying:symbols=1: symbols: 1 given, should be greater than or equal to 2"),
        ("copying:symbols", "--task copying:symbols: symbols: key=value is needed, as in length=24"),
        ("copying:length=2,length=3", "--task copying:length=2,length=3: length is given twice"),
    ],
)
def test_a_wrong_task_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_task(text)
    assert str(caught.value).startswith(message)


def test_a_task_and_a_text_exclude_each_other() -> None:
    with pytest.raises(RequestError) as caught:
        load_dataset(DataConfig(task="copying", tokenizer="bpe:512"), print)
    assert str(caught.value) == "--tokenizer bpe:512: is about a text, and --task copying makes its own sequences"
    with pytest.raises(RequestError, match=r"training.order sequential: sequences of copying have no order"):
        dataset("copying").refuse(8, "sequential", 10)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (constant(0, rows_more=1), "task broken: gives inputs [3, 8]; [2, 8] was asked for"),
        (constant(4), "task broken: inputs from 4 to 4; 0 to 3 would do"),
        (constant(0, target=-1), "task broken: targets from -1 to -1; 0 to 3 would do"),
        (
            constant(0, target=IGNORED),
            "task broken: a sequence asks nothing; a target other than -100 in each would do",
        ),
    ],
)
def test_a_broken_task_is_named(task: Task, message: str, tasks: Registry[Task]) -> None:
    tasks.register("broken", task)
    with pytest.raises(RequestError) as caught:
        dataset("broken").batches(8, 2, 0, "shuffled").batch(0)
    assert str(caught.value) == message
