"""Grids of learning rates: chosen on the validation split alone, only the chosen compared, and all of it said."""

import pytest

from assay.analysis.ranking.entrants import Point
from assay.analysis.rule import Tuning
from assay.records import ArmAudit, StudyRecord
from report.factory import MadeUp, arm_run, changed, diverged, study
from report.made_up import validated

RATES = (0.001, 0.003, 0.01)
VALIDATION = {("gpt1", 0.001): 5.2, ("gpt1", 0.003): 5.0, ("gpt1", 0.01): 5.3}
VALIDATION |= {("rwkv6", 0.001): 4.9, ("rwkv6", 0.003): 4.8, ("rwkv6", 0.01): 4.7}
TEST = VALIDATION | {("gpt1", 0.001): 4.5}
"""gpt1's best test score is not at the point with the best validation."""
NOISE = (0.0, 0.011, -0.006)


def label(group: str, rate: float) -> str:
    return f"{group}:lr={rate:g}"


def grid() -> tuple[list[MadeUp], dict[str, Point]]:
    runs, points = [], {}
    for index, ((group, rate), nats) in enumerate(VALIDATION.items()):
        name = label(group, rate)
        points[name] = Point(group, None, rate)
        for seed in range(3):
            test = TEST[group, rate] + 0.02 * seed + NOISE[(seed + index) % 3]
            runs.append(validated(arm_run(name, seed, test, group, learning_rate=rate), nats + 0.01 * seed))
    return runs, points


def judged(runs: list[MadeUp], points: dict[str, Point], audits: tuple[ArmAudit, ...] = ()) -> StudyRecord:
    return study(runs, points=points, tuning=Tuning(learning_rates=list(RATES)), audits=audits)


def said(record: StudyRecord, words: str) -> str:
    (line,) = [line for line in record.headline if words in line]
    return line


def test_the_lowest_validation_is_selected_whatever_the_test_says() -> None:
    record = judged(*grid())
    selected = {arm.label: arm.selected for arm in record.arms}
    assert [name for name, chosen in selected.items() if chosen] == ["rwkv6:lr=0.01", "gpt1:lr=0.003"]
    by_label = {arm.label: arm for arm in record.arms}
    assert by_label["gpt1:lr=0.003"].validation_nats == pytest.approx(5.01)
    assert by_label["gpt1:lr=0.003"].learning_rate == 0.003
    assert {arm.group for arm in record.arms} == {"gpt1", "rwkv6"}
    best, chosen = by_label["gpt1:lr=0.001"].test, by_label["gpt1:lr=0.003"].test
    assert best is not None
    assert chosen is not None
    assert best.nats_per_token.mean < chosen.nats_per_token.mean
    assert by_label["gpt1:lr=0.001"].rank is None


def test_only_the_selected_are_ranked_and_paired() -> None:
    record = judged(*grid())
    assert [arm.rank for arm in record.arms] == [1, 2, None, None, None, None]
    assert [arm.group for arm in record.arms] == ["rwkv6", "gpt1", "rwkv6", "rwkv6", "gpt1", "gpt1"]
    (pair,) = record.pairs
    assert {pair.a, pair.b} == {"rwkv6:lr=0.01", "gpt1:lr=0.003"}
    assert "together" not in pair.sentence


def test_the_headline_says_what_was_chosen_among_what() -> None:
    record = judged(*grid())
    line = said(record, "Learning rate chosen")
    assert line.startswith(
        "Learning rate chosen among 0.001, 0.003, 0.01 by the lowest mean nats on the validation split"
    )
    assert line.endswith(": gpt1 0.003 and rwkv6 0.01.")
    assert said(record, "wider grid") == "rwkv6 0.01 is at an end of the grid: a wider grid might find a better one."
    assert not any("untuned" in line for line in record.headline)


@pytest.mark.parametrize("lost", ["diverged", "unsound", "not validated"])
def test_a_point_that_cannot_be_trusted_cannot_be_chosen(lost: str) -> None:
    runs, points = grid()
    name = label("gpt1", 0.003)
    at = next(index for index, run in enumerate(runs) if run.record.label == name)
    audits: tuple[ArmAudit, ...] = ()
    if lost == "diverged":
        same = {"spec": runs[at].record.spec, "architecture": "gpt1"}
        runs[at] = diverged(name, 0, **same)
    elif lost == "unsound":
        audits = (
            ArmAudit(
                label=name, seed=0, moment="after training", sound=False, summary="sees later tokens", findings=[]
            ),
        )
    else:
        runs[at] = changed(runs[at], validation_curve=[])
    record = judged(runs, points, audits)
    assert [arm.label for arm in record.arms if arm.selected] == ["gpt1:lr=0.001", "rwkv6:lr=0.01"]
    assert record.ranked
    if lost == "diverged":
        assert said(record, "Not to be chosen") == "Not to be chosen, as seeds diverged: gpt1:lr=0.003 (1 of 3)."


def test_a_group_without_a_choice_is_not_ranked_and_says_why() -> None:
    runs, points = grid()
    runs = [
        diverged(run.record.label, 0, spec=run.record.spec, architecture="gpt1")
        if run.record.seed == 0 and run.record.architecture == "gpt1"
        else run
        for run in runs
    ]
    record = judged(runs, points)
    assert [arm.label for arm in record.arms if arm.rank] == ["rwkv6:lr=0.01"]
    assert "gpt1:lr=0.001: 1 of 3 diverged" in said(record, "gpt1: no learning rate can be chosen")
    assert record.pairs == []


def test_arms_with_a_rate_of_their_own_are_named_and_ranked() -> None:
    runs, points = grid()
    runs += [arm_run("slow", seed, 5.5 + 0.02 * seed, "gpt1", learning_rate=1e-4) for seed in range(3)]
    record = judged(runs, points)
    assert {arm.label: arm.rank for arm in record.arms if arm.rank} == {
        "rwkv6:lr=0.01": 1,
        "gpt1:lr=0.003": 2,
        "slow": 3,
    }
    assert said(record, "slow has") == "slow has its own learning rate, 0.0001, and was not tuned as the others were."
    assert len(record.pairs) == 3
    assert next(arm for arm in record.arms if arm.label == "slow").selected is None


def test_a_short_grid_is_named() -> None:
    runs, points = grid()
    record = judged([run for run in runs if run.record.label != "gpt1:lr=0.01"], points)
    assert "The arms had different grids, so they were not tuned alike." in record.headline
    assert "gpt1 did not run through the whole grid." in record.headline


def test_choice_and_ranking_on_one_split_are_warned_of() -> None:
    runs, points = grid()
    runs = [changed(run, test=None, validation=run.inside["test"]) for run in runs]
    record = study(runs, points=points, tuning=Tuning(learning_rates=list(RATES)), split="validation")
    assert "the chosen points look better than they are" in said(record, "Learning rate chosen")


def test_without_a_grid_learning_rates_that_differ_are_listed() -> None:
    runs = [arm_run(name, seed, None, "gpt1", d_ff=width) for seed in range(2) for name, width in (("a", 4), ("b", 8))]
    assert study(runs).headline[1] == "Every arm: one learning rate, untuned."
    runs += [arm_run("slow", seed, None, "gpt1", learning_rate=1e-4) for seed in range(2)]
    assert study(runs).headline[1] == (
        "Learning rates differ, and none was tuned: 0.0001 for slow, 0.003 for the others."
    )


def test_how_wide_the_window_of_rates_is() -> None:
    """gpt1's best is 5.0 at 0.003 and the next 4% above it; with 1% of 4.7, rwkv6's reaches no second rate either."""
    line = said(judged(*grid()), "Rates within")
    assert line == "Rates within 1% or 0.01 nats of the best: gpt1 0.003 alone and rwkv6 0.01 alone."
    wide = VALIDATION | {("rwkv6", 0.003): 4.74, ("rwkv6", 0.001): 4.9}
    runs, points = [], {}
    for (group, rate), nats in wide.items():
        points[label(group, rate)] = Point(group, None, rate)
        for seed in range(3):
            made = arm_run(label(group, rate), seed, nats + NOISE[seed], group, learning_rate=rate)
            runs.append(validated(made, nats + 0.01 * seed))
    assert said(judged(runs, points), "Rates within").endswith("gpt1 0.003 alone and rwkv6 0.003 to 0.01 (3.33x).")
