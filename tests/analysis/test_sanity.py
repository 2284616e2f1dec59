"""Judgements of made-up short runs: each check passes a sound one and fails what it is there for."""

import math

import pytest

from assay.analysis.sanity import SanityLimits, ambiguity_nats, fall, judge_below, judge_overfitting, judge_part, spike
from assay.records.sanity import SanityFinding, ShortRun

LIMITS = SanityLimits()
VOCAB = 100


def run(label: str = "arm", last: float = 3.0, norm: float = 1.0, validation: float | None = 3.0) -> ShortRun:
    """A loss that falls in a line from ln V to `last`."""
    first, steps = math.log(VOCAB), 50
    nats = [first + (last - first) * step / (steps - 1) for step in range(steps)]
    return ShortRun(
        label=label, status="finished", nats=nats, gradient_norms=[norm] * steps, validation_nats=validation
    )


def status(findings: list[SanityFinding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


def test_a_sound_arm_passes() -> None:
    assert set(status(judge_part(run(), run("baseline", norm=5.0), VOCAB, LIMITS)).values()) == {"pass"}


@pytest.mark.parametrize(
    ("arm", "failed"),
    [
        (run(last=math.log(VOCAB)), "losses fall alike"),
        (run(norm=11.0), "gradient norms of the same order"),
        (run(norm=0.09), "gradient norms of the same order"),
        (run(norm=math.inf), "gradient norms of the same order"),
        (run().model_copy(update={"nats": [*run().nats[:30], 9.0, *run().nats[31:]]}), "smooth"),
    ],
)
def test_each_check_fails_what_it_is_there_for(arm: ShortRun, failed: str) -> None:
    found = status(judge_part(arm, run("baseline"), VOCAB, LIMITS))
    assert [check for check, of in found.items() if of == "fail"] == [failed]


def test_a_run_that_diverged_fails_and_says_so() -> None:
    diverged = run(validation=None).model_copy(update={"status": "diverged"})
    findings = judge_part(diverged, run("baseline"), VOCAB, LIMITS)
    assert status(findings)["losses fall alike"] == status(findings)["smooth"] == "fail"
    assert "diverged after 50 steps" in findings[1].reason


def test_a_baseline_that_learns_nothing_is_nothing_to_be_held_against() -> None:
    (first, *_) = judge_part(run(), run("baseline", last=math.log(VOCAB)), VOCAB, LIMITS)
    assert first.status == "fail"
    assert "baseline learns nothing" in first.reason


def test_an_arm_that_falls_much_faster_passes_and_is_sent_to_the_audit() -> None:
    (first, *_) = judge_part(run(last=0.5), run("baseline", last=3.5), VOCAB, LIMITS)
    assert first.status == "pass"
    assert "audit" in first.reason


def test_a_bad_beginning_is_no_credit() -> None:
    late = run().model_copy(update={"nats": [50.0] * 10 + [math.log(VOCAB)] * 40})
    assert fall(late, VOCAB) == pytest.approx(0.0)


def test_a_spike_is_over_the_mean_of_the_twenty_before() -> None:
    assert spike([1.0] * 10) == 1.0
    assert spike([*[2.0] * 20, 5.0, 2.0]) == pytest.approx(2.5)


def test_overfitting_is_near_what_can_be_reached() -> None:
    good, bad = run(validation=0.25), run("baseline", validation=0.25)
    assert judge_overfitting(good, bad, 1000, 0.2, LIMITS).status == "pass"
    assert judge_overfitting(good, bad, 1000, 0.0, LIMITS).status == "fail"
    both = judge_overfitting(good, bad, 1000, 0.0, LIMITS)
    assert "the baseline does not get there either" in both.reason
    assert judge_overfitting(run(validation=None), run("baseline", validation=0.0), 1000, 0.0, LIMITS).status == "fail"


def test_ambiguity_is_the_entropy_of_targets_behind_equal_inputs() -> None:
    windows = [([1, 2, 3], [2, 3, 4]), ([1, 2, 5], [2, 5, 6]), ([7, 8, 9], [8, 9, -100])]
    # Behind (1, 2) comes 3 or 5: two targets of ln 2 among the eight that there are.
    assert ambiguity_nats(windows, -100) == pytest.approx(2 * math.log(2) / 8)
    assert ambiguity_nats([], -100) == 0.0


def test_the_rung_below_is_beaten_beyond_the_noise_of_seeds() -> None:
    assert judge_below("arm", [2.0], [2.1]).status == "pass"
    assert judge_below("arm", [2.1], [2.0]).status == "fail"
    assert judge_below("arm", [2.0, 2.1, 2.2], [2.2, 2.31, 2.4]).status == "pass"
    noisy = judge_below("arm", [2.0, 2.5, 2.2], [2.3, 2.2, 2.3])
    assert noisy.status == "fail"
    assert "standard error" in noisy.reason
