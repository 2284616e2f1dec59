"""Decoding by any habit: recognised by signature, compared with one forward, or said not to have been looked at."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.audit import audit, borrowed, plan_search, yardstick
from assay.audit.checks.parity import parity
from assay.records import Finding
from gallery_habits import (
    AskedFor,
    Attentive,
    CacheInside,
    Fault,
    Generating,
    InPlaceCache,
    Moved,
    OneNumber,
    OwnObject,
    Planned,
    PrefillDecode,
    Rolling,
    SetUp,
    SeveralStates,
    SingleTokens,
    StartPos,
    Stateful,
    StepOrNone,
    WithParams,
)
from plain_models import seeded

HABITS: dict[type[Attentive], str] = {
    StartPos: "`forward` and `start_pos`",
    StepOrNone: "`step`",
    InPlaceCache: "`init_cache` and `decode_one`",
    WithParams: "`forward` and `inference_params`",
    PrefillDecode: "`prefill` and `decode`",
    AskedFor: "`return_state` and `state`",
    CacheInside: "`forward` and `use_cache`",
    SetUp: "`forward` and `input_pos`",
    OneNumber: "`init_state` and `step` give (one row at a time)",
    Stateful: "`step`",
    SeveralStates: "`allocate_inference_cache` and `step`",
    OwnObject: "`forward` and `cache`",
    SingleTokens: "`forward` and `past`",
}


def found(model: nn.Module, decode: Any = None, length: int = 40) -> Finding:
    with borrowed(model, max_length=length) as subject:
        search = plan_search(subject.longest, 0, False, 0)
        subject.decode = decode
        return parity(subject, search, yardstick(subject, search))


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
def test_every_habit_is_read_and_its_faults_are_found(habit: type[Attentive]) -> None:
    sound = found(seeded(habit, 0))
    assert (sound.status, HABITS[habit] in sound.explanation) == ("pass", True), sound
    fault: Fault = "position"
    broken = found(seeded(lambda: habit(fault), 0))
    assert broken.status == "fail", broken


@pytest.mark.parametrize(
    ("habit", "fault", "named"),
    [
        (StepOrNone, "shared", "memory"),
        (InPlaceCache, "shared", "buffer"),
        (CacheInside, "kept", "past"),
        (Stateful, "kept", "past"),
        (StartPos, "batch", None),
        (PrefillDecode, "forgets", None),
    ],
)
def test_a_fault_of_decoding_is_found_and_placed(habit: type[Attentive], fault: Fault, named: str | None) -> None:
    broken = found(seeded(lambda: habit(fault), 0))
    assert (broken.status, broken.where is not None) == ("fail", True), broken
    if named is not None:
        assert f"{habit.__name__}: {named}" in str(broken.where), broken


def test_a_ring_that_rolls_wrongly_in_its_second_round_is_found() -> None:
    assert found(seeded(lambda: Rolling(False), 0)).status == "pass"
    assert found(seeded(lambda: Rolling(True), 0)).status == "fail"


@pytest.mark.parametrize(("window", "second"), [(90, True), (200, False)])
def test_a_long_ring_is_told_by_the_size_of_its_state(window: int, second: bool) -> None:
    assert found(seeded(lambda: Rolling(False, window), 0), length=240).status == "pass"
    assert found(seeded(lambda: Rolling(True, window, rounds=2 if second else 1), 0), length=240).status == "fail"


def test_what_is_not_looked_at_is_said() -> None:
    moved = found(seeded(Moved, 0))
    assert (moved.status, "keep nothing" in moved.explanation) == ("skip", True), moved
    planned = found(seeded(Planned, 0))
    assert planned.status == "skip"
    assert planned.explanation.startswith("not looked at: pass decode=; `decode_next` needs `plan`")


class StepAndMore(StepOrNone):
    """Decodes by `step`, and by a method that nobody can call."""

    def decode_next(self, ids: Tensor, plan: object) -> Tensor:
        raise NotImplementedError


def test_what_is_looked_at_in_part_is_said_in_the_first_line() -> None:
    report = audit(seeded(StepAndMore, 0), max_length=24)
    assert report.sound
    assert "; some decoding (pass decode=, `decode_next` needs `plan`)" in report.summary()


def test_a_way_to_decode_can_be_given() -> None:
    def decode(model: Any, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        state = torch.cat([state, ids], 1) if state is not None else ids
        return model(state)[:, -ids.shape[1] :], state

    assert found(seeded(Planned, 0), decode).status == "pass"
    wrong = found(seeded(Planned, 0), lambda model, ids, _: (model(ids), ids))
    assert wrong.status == "fail"
    assert "`decode` in pieces" in wrong.explanation


@pytest.mark.parametrize(("broken", "status"), [(False, "pass"), (True, "fail")])
def test_greedy_choices_are_compared_where_a_model_only_generates(broken: bool, status: str) -> None:
    assert found(seeded(lambda: Generating(broken), 0)).status == status


def test_choices_at_random_are_not_looked_at() -> None:
    drawn = found(seeded(lambda: Generating(False, greedy=False), 0))
    assert (
        drawn.explanation == "not looked at: pass decode=; `generate` draws at random, or goes on from the call before"
    )
