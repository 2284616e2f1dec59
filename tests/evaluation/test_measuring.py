"""Measurements of one model share its forward passes, and what one of them gives does not depend on the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import RequestError
from assay.evaluation.measurement import MEASUREMENTS, Given, Measurement, Reader, expanded, named, register
from assay.evaluation.measuring import Measuring, measure_model
from assay.evaluation.results import as_result, outdated
from assay.evaluation.scoring import BATCH_TOKENS, ScoredBatch
from assay.model.lm import LanguageModel
from assay.records import Column, Measured, Record
from evaluation.small import given, tiny, windows

READERS = ("likelihood", "recall", "output_health")


def passes(model: LanguageModel, names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[Record]]:
    """How many forward passes the measurements take together, and their values."""
    calls = []
    hidden = LanguageModel.hidden

    def counted(self: LanguageModel, ids: torch.Tensor, *rest: Any) -> Any:
        calls.append(len(ids))
        return hidden(self, ids, *rest)

    draw = np.random.default_rng(0)
    batch = windows([list(draw.integers(0, 61, 33)) for _ in range(600)], 32, range(600))
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "hidden", counted)
        values = measure_model([item for item in named(names) if isinstance(item, Measurement)], given(model, batch))
    return len(calls), values


def test_readers_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    alone, (likelihood,) = passes(model, ["likelihood"], monkeypatch)
    assert alone == -(-600 * 32 // BATCH_TOKENS) > 1
    together, values = passes(model, READERS, monkeypatch)
    assert together == alone
    assert values[0] == likelihood
    for name, value in zip(READERS[1:], values[1:], strict=True):
        assert passes(model, [name], monkeypatch) == (alone, [value])


class Seen(Record):
    """How many windows came by."""

    windows: int


class Counter(Reader):
    """Counts windows; what it holds of a batch is gone with it."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.widths: list[int] = []

    def read(self, batch: ScoredBatch) -> None:
        self.rows += batch.rows.tolist()
        self.widths.append(batch.hidden.shape[1])
        assert batch.hidden.shape[:2] == batch.targets.shape == batch.nats.shape
        assert batch.logits(batch.hidden[0, :1]).shape == (1, 61)


class CountWindows(Measurement[Seen]):
    """A reader of somebody's own."""

    name = "count_windows"
    question = "How many?"
    unit = "windows"
    group = "benchmark"
    needs = frozenset({"trained"})
    record = Seen
    version = 3

    def readers(self, given: Given) -> Sequence[Reader]:
        return [Counter()]

    def measure(self, given: Given, readers: Sequence[Counter]) -> Seen:
        assert sorted(readers[0].rows) == list(range(len(readers[0].rows)))
        assert readers[0].widths == sorted(readers[0].widths, reverse=True)
        return Seen(windows=len(readers[0].rows))

    def columns(self, values: Seen) -> list[Column]:
        return [Column(key="windows", head="windows", format="count", value=values.windows)]


def test_a_reader_gets_every_window_once_and_the_result_says_whose_code_it_was() -> None:
    batch = windows([[1, 2, 3, 4]] * 5 + [[1, 2]] * 3, 3, range(8))
    item = CountWindows()
    (values,) = measure_model([item], given(tiny(), batch))
    assert values == Seen(windows=8)
    MEASUREMENTS.register(item.name, item)
    try:
        result = as_result(item, values, Measured(label="tiny", seed=0))
        assert (result.values, result.measurement_version, result.code.kind) == ({"windows": 8}, 3, "caller")
        assert outdated(item, result) is None
        assert "its version 2, not 3" in str(outdated(item, result.model_copy(update={"measurement_version": 2})))
        edited = result.code.model_copy(update={"digest": "d" * 64})
        assert "before it was edited" in str(outdated(item, result.model_copy(update={"code": edited})))
    finally:
        del MEASUREMENTS._items[item.name], MEASUREMENTS._registrations[item.name]


class Broken(CountWindows):
    """Fails at the place that it is given."""

    name = "broken"

    def __init__(self, at: str) -> None:
        self.at = at

    def readers(self, given: Given) -> Sequence[Reader]:
        self._reach("readers", given)
        return []

    def measure(self, given: Given, readers: Sequence[Reader]) -> Seen:
        self._reach("measure", given)
        return {"windows": 1} if self.at == "another type" else Seen(windows=1)  # type: ignore[return-value]

    def columns(self, values: Seen) -> list[Column]:
        assert self.at != "columns", "of columns"
        return []

    def _reach(self, place: str, given: Given) -> None:
        if self.at == f"{place} writes":
            with torch.no_grad():
                given.trained.embedding.tokens.mul_(2)
        elif self.at == f"{place} trains":
            given.trained.train(not given.trained.training)
        else:
            assert self.at != place, f"of {place}"


@pytest.mark.parametrize(
    ("at", "says", "spoilt"),
    [
        ("readers", "AssertionError: of readers", False),
        ("measure", "AssertionError: of measure", False),
        ("columns", "AssertionError: of columns", False),
        ("another type", "measure returns dict; Seen, its `record`, would do", False),
        ("measure writes", "it changed the model's weights", True),
        ("measure trains", "it left the model in .* mode", True),
        ("readers writes", "it changed the model's weights", True),
    ],
)
def test_a_broken_measurement_is_named_and_takes_no_other_with_it(
    at: str, says: str, spoilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "assay.evaluation.measuring.as_result", lambda item, values, _: (item.name, item.columns(values))
    )
    batch = windows([[1, 2, 3, 4]] * 5, 3, range(5))
    measuring = Measuring(given(tiny(), batch))
    shown = measuring.results([Broken(at), CountWindows()], Measured(label="tiny", seed=0))
    assert [name for name, _ in shown] == ([] if spoilt else ["count_windows"])  # type: ignore[misc]
    with pytest.raises(RequestError, match=rf"broken cannot be measured: .*test_measuring.py: line \d+: {says}"):
        measuring.raise_failures()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"question": " "}, "question: ' '; a text would do"),
        ({"name": "a/b"}, "name: 'a/b'; letters, digits"),
        ({"group": "beauty"}, "group: 'beauty'; one of likelihood, "),
        ({"record": dict}, "record: .*; a class of assay.records.Record would do"),
        ({"version": 0}, "version: 0; a whole number from 1 would do"),
        (
            {"needs": {"trained"}},
            "needs: .*; a frozenset of initial, trained, course, task, capacity, words, mixture would do",
        ),
        (
            {"needs": frozenset({"weights"})},
            "needs: .*; a frozenset of initial, trained, course, task, capacity, words, mixture would do",
        ),
        ({"needs": frozenset({"course"})}, "needs the course and has no observer;"),
    ],
)
def test_an_incomplete_measurement_is_refused_when_it_is_registered(changes: dict[str, object], says: str) -> None:
    item = type("Mine", (CountWindows,), changes)()
    called = changes.get("name", "count_windows")
    with pytest.raises(RequestError, match=f"the measurement {called}:? {says}"):
        register(item)
    assert item.name not in MEASUREMENTS.names()


def test_installed_packages_bring_theirs_by_an_entry_point() -> None:
    assert MEASUREMENTS.group == "assay.measurements"


def test_groups_stand_for_their_measurements() -> None:
    assert expanded(["memory", "likelihood", "recall"], of_task=False) == ["recall", "likelihood"]
    assert {"answers", "capacity", "recall"} <= set(expanded(["memory"])), "of a task"
    assert expanded(["answers"], of_task=False) == ["answers"], "what is named is asked"
    assert expanded(["speed"]) == ["speed"]
    with pytest.raises(
        RequestError, match="--measure recal: no measurement and no group of them; did you mean 'recall'"
    ):
        expanded(["recal"])


def test_what_is_needed_and_not_there_is_said() -> None:
    likelihood, signals = MEASUREMENTS.get("likelihood"), MEASUREMENTS.get("signals")
    assert isinstance(likelihood, Measurement)
    assert isinstance(signals, Measurement)
    assert likelihood.unmet(frozenset({"initial"})) == "needs trained weights"
    assert signals.unmet(frozenset({"initial"})) is None, "either moment will do"
    assert signals.unmet(frozenset()) is not None


class Spoiler(Reader):
    """Writes into what others read too."""

    def __init__(self, what: str) -> None:
        self.what = what

    def read(self, batch: ScoredBatch) -> None:
        if self.what == "nats":
            batch.nats[:] = 0
        elif self.what == "hidden":
            batch.hidden.zero_()


class Spoils(CountWindows):
    """Changes something that is not its own, in one of several ways."""

    name = "a_spoiler"

    def __init__(self, what: str) -> None:
        self.what = what

    def readers(self, given: Given) -> Sequence[Reader]:
        return [Spoiler(self.what)]

    def measure(self, given: Given, readers: Sequence[Any]) -> Seen:
        if self.what == "targets":
            given.held_out.targets[:] = 0
        elif self.what == "weights":
            given.trained.embedding.tokens.data.zero_()
        elif self.what == "hook":
            given.trained.embedding.register_forward_hook(lambda *_: None)
        return Seen(windows=0)


@pytest.mark.parametrize("what", ["nats", "hidden", "targets", "weights", "hook"])
def test_no_measurement_changes_what_the_others_give(what: str) -> None:
    """What is ranked on comes out as without it, or not at all, and the one at fault is named."""
    model = tiny()
    batch = windows([[1, 2, 3, 4, 5, 6, 7, 8]] * 5, 8, range(5))
    likelihood = MEASUREMENTS.get("likelihood")
    assert isinstance(likelihood, Measurement)
    (alone,) = measure_model([likelihood], given(model, batch))
    measuring = Measuring(given(model, batch))
    values = measuring.values([Spoils(what), likelihood])
    assert values.get("likelihood", alone) == alone
    if what == "nats":  # a copy of its own
        assert values["likelihood"] == alone
        return
    assert set(measuring.failures) == {"a_spoiler"}
    assert "a_spoiler" not in values
