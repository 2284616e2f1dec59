"""A sound arm passes the checks; one that cannot learn and one with exploding gradients fail; they resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from assay.analysis.sanity import SanityLimits
from assay.errors import RequestError
from assay.layers.basic import RMSNorm
from assay.records.sanity import Sanity
from assay.study.resolve import ResolvedArm, Study, resolve
from assay.study.sanity.check import check
from assay.training.loop import StepEvent
from study.made_up import Make

LIMITS = SanityLimits(least_steps=30, overfit_tokens=64, overfit_steps=150, overfit_nats=0.3)


class Frozen(RMSNorm):
    """Nothing comes out of it, so that no logit moves and no gradient comes back."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0


class Exploding(RMSNorm):
    """The same values, with gradients a thousand times as large."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * 1e3)
        return y


@pytest.fixture
def study(make: Make) -> Study:
    return resolve(make(("gpt1", "again=gpt1:replicate=1"), training={"learning_rate": 1e-2}), lambda _: None)


def mutant(arm: ResolvedArm, norm: Callable[[int], Any]) -> ResolvedArm:
    return replace(arm, label="mutant", architecture=replace(arm.architecture, norm=norm))


def failed(sanity: Sanity) -> set[str]:
    return {finding.check for finding in sanity.findings if finding.status == "fail"}


def test_a_sound_arm_passes_mutants_fail_and_the_next_rung_is_held_against_this_one(
    study: Study, tmp_path: Path
) -> None:
    arm, baseline = study.arms
    steps: list[int] = []
    listen: list[Callable[[StepEvent], None]] = [lambda event: steps.append(event.step)]
    sound = check(study, arm, baseline, tmp_path / "sound", lambda _: None, limits=LIMITS, observers=listen)
    assert failed(sound) == set()
    assert sound.passed
    assert len(sound.findings) == 4
    assert len(sound.part["gpt1"].nats) == 30, "1% of 12 steps is none, so that the least is read"
    taken = len(steps)
    again = check(study, arm, baseline, tmp_path / "sound", lambda _: None, limits=LIMITS, observers=listen)
    assert (again, len(steps)) == (sound, taken), "a finished check is read"

    short = SanityLimits(least_steps=21, overfit_tokens=16, overfit_steps=5)
    frozen = check(study, mutant(arm, Frozen), baseline, tmp_path / "frozen", lambda _: None, limits=short)
    assert failed(frozen) == {"losses fall alike", "gradient norms of the same order", "overfits"}
    exploding = check(study, mutant(arm, Exploding), baseline, tmp_path / "exploding", lambda _: None, limits=short)
    assert "gradient norms of the same order" in failed(exploding)

    longer = SanityLimits(least_steps=45, overfit_tokens=16, overfit_steps=5)
    next_rung = check(study, arm, baseline, tmp_path / "next", lambda _: None, below=sound, limits=longer)
    (finding,) = [finding for finding in next_rung.findings if finding.check == "better than the rung below"]
    assert finding.status == "pass", finding.reason


def test_an_interrupted_check_ends_as_if_it_had_not_been(study: Study, tmp_path: Path) -> None:
    arm, baseline = study.arms
    limits = SanityLimits(least_steps=21, overfit_tokens=16, overfit_steps=5)
    whole = check(study, arm, baseline, tmp_path / "whole", lambda _: None, limits=limits)

    class StoppedError(Exception):
        pass

    events: list[StepEvent] = []

    def stop(event: StepEvent) -> None:
        events.append(event)
        if len(events) == 15:
            raise StoppedError

    with pytest.raises(StoppedError):
        check(study, arm, baseline, tmp_path / "parts", lambda _: None, limits=limits, observers=[stop])
    other = SanityLimits(least_steps=22, overfit_tokens=16, overfit_steps=5)
    with pytest.raises(RequestError, match="another arm, baseline, limits"):
        check(study, arm, baseline, tmp_path / "parts", lambda _: None, limits=other)
    assert check(study, arm, baseline, tmp_path / "parts", lambda _: None, limits=limits) == whole
    with pytest.raises(RequestError, match="another arm, baseline, limits"):
        check(study, arm, baseline, tmp_path / "whole", lambda _: None, limits=other)


def test_what_cannot_be_compared_is_refused(study: Study, tmp_path: Path) -> None:
    arm, baseline = study.arms
    with pytest.raises(RequestError, match="is the arm itself"):
        check(study, arm, arm, tmp_path, lambda _: None)
    other = Sanity(arm="gpt1", baseline="again", asked="", corpus_digest="f" * 64, part={}, findings=[])
    with pytest.raises(RequestError, match="read other data"):
        check(study, arm, baseline, tmp_path, lambda _: None, below=other)
