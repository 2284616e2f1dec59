"""Losses at smaller budgets: what was trained to them, and a curve along tokens that is paired by seed."""

from typing import Any

import pytest

from analysis.gate.ladders import SIZES, evidence, run_of
from assay.analysis.gate.budgets import Branches, budget_curve
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.rule import parse_rule
from assay.records.gate import GateRecord
from report.factory import diverged

PLAIN = parse_rule({"name": "plain", "kind": "intervals"})
SIZE = SIZES[0]


def judged(branches: Branches, **changes: Any) -> GateRecord:
    return judge_gate(evidence(1.2, branches=branches, **changes), PLAIN, None, [], [])


def branches(broken: bool = False) -> Branches:
    runs = {
        label: {seed: run_of(label, SIZE, seed, 4.0 + 0.1 * seed - better) for seed in range(4)}
        for label, better in (("gpt1", 0.0), ("mine", 0.05))
    }
    if broken:
        runs["mine"][0] = diverged("mine", 0)
    return {(label, SIZE): {500_000: of} for label, of in runs.items()}


def test_a_curve_ends_at_the_whole_budget_and_is_paired_with_the_baseline() -> None:
    record = judged(branches())
    points = budget_curve(record)
    assert [(of.arm, of.tokens, of.share) for of in points] == [
        ("gpt1", 500_000, 0.25), ("gpt1", 2_000_000, 1.0), ("mine", 500_000, 0.25), ("mine", 2_000_000, 1.0),
    ]  # fmt: skip
    apart = points[2].against_baseline
    assert apart is not None
    assert (apart.low, apart.mean, apart.high) == pytest.approx((-0.05, -0.05, -0.05)), "the seeds' spread is common"
    assert points[0].against_baseline is None
    whole = next(arm for arm in record.arms if (arm.label, arm.size) == ("mine", SIZE))
    assert points[3].losses == whole.losses


def test_they_decide_nothing() -> None:
    without, with_them = judged({}), judged(branches())
    assert budget_curve(without) == []
    assert with_them.verdicts == without.verdicts


def test_no_mean_is_given_where_a_run_diverged() -> None:
    points = budget_curve(judged(branches(broken=True)))
    assert (points[2].over_seeds, points[2].against_baseline) == (None, None)
    assert points[3].over_seeds is not None
