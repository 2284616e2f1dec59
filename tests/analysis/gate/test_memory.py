"""Recall, statefulness and long context: PASS, FAIL or OPEN by intervals, and OPEN where all stand at the floor."""

import dataclasses
import re
from collections.abc import Sequence

import pytest

from analysis.gate.ladders import SIZES, evidence, run_of
from assay.analysis.gate.criteria import judge_criterion
from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.memory import Remembered, score_of, why_not_told
from assay.analysis.gate.metrics import point_metrics
from assay.analysis.gate.needs import further_measurements, memory_tasks
from assay.analysis.gate.rule import Criterion, parse_rule, read_rule
from assay.records import Column, Measured, MeasurementResult
from assay.records.measurement import Code

RECALL = Criterion(name="recall", quantity="recall", compare="difference", at_least=-0.1)


def remembered(scores: Sequence[float], diverged: int = 0) -> Remembered:
    return Remembered(dict(enumerate(scores)), diverged)


def with_memory(ours: Remembered, theirs: Remembered, kind: str = "recall") -> Evidence:
    return evidence(memory={kind: {"mine": ours, "gpt1": theirs}})


@pytest.mark.parametrize(
    ("ours", "theirs", "state"),
    [
        ([0.9, 0.92, 0.91], [0.5, 0.52, 0.51], "PASS"),
        ([0.2, 0.22, 0.21], [0.9, 0.92, 0.91], "FAIL"),
        ([0.1, 0.9, 0.4], [0.5, 0.5, 0.5], "OPEN"),
        ([0.0, 0.01, 0.0], [0.9, 0.92, 0.91], "FAIL"),
    ],
)
def test_recall_is_judged_by_its_interval(ours: list[float], theirs: list[float], state: str) -> None:
    of = with_memory(remembered(ours), remembered(theirs))
    found = judge_criterion(RECALL, of, "mine", None, 0.99)
    assert found.state == state
    assert "over 3 seeds" in found.text


def test_open_by_its_interval_says_how_many_seeds_would_tell() -> None:
    of = with_memory(remembered([0.4, 0.7, 0.6]), remembered([0.5, 0.5, 0.5]))
    closing = judge_criterion(RECALL, of, "mine", None, 0.95).closing
    assert re.fullmatch(r"some \d+ seeds, here 3, would tell it if it is as seen", closing)
    near = with_memory(remembered([0.3, 0.5, 0.4001]), remembered([0.5, 0.5, 0.5]))
    assert "no number of seeds" in judge_criterion(RECALL, near, "mine", None, 0.95).closing


def test_where_all_stand_at_the_floor_nothing_is_told() -> None:
    of = with_memory(remembered([0.0, 0.01, 0.02]), remembered([0.0, 0.02, 0.01]))
    found = judge_criterion(RECALL, of, "mine", None, 0.99)
    assert found.state == "OPEN", "equal at the floor is not equal"
    assert "all arms stand at the floor" in found.text
    assert "larger budget" in found.closing
    assert found.value is None


def test_a_diverged_run_leaves_it_open() -> None:
    of = with_memory(remembered([0.9, 0.9], 1), remembered([0.5, 0.5, 0.5]))
    found = judge_criterion(RECALL, of, "mine", None, 0.99)
    assert found.state == "OPEN"
    assert "1 of mine's recall runs diverged" in found.text


def test_what_was_not_measured_is_open() -> None:
    found = judge_criterion(RECALL, evidence(), "mine", None, 0.99)
    assert (found.state, found.value) == ("OPEN", None)
    assert "--memory" in found.closing
    assert why_not_told("recall", {"recall": {"mine": remembered([1.0])}}, "mine", "gpt1") is not None


def test_statefulness_of_document_004_is_a_ratio_above_the_floor() -> None:
    of = with_memory(remembered([0.9, 0.9]), remembered([0.6, 0.6]), "statefulness")
    metrics = point_metrics(of, "mine")
    assert metrics["statefulness_ratio"] == pytest.approx(1.5)
    assert metrics["statefulness_difference"] == pytest.approx(0.3)
    at_floor = point_metrics(with_memory(remembered([0.9]), remembered([0.0]), "statefulness"), "mine")
    assert at_floor["statefulness_ratio"] is None, "a ratio to nothing says nothing"
    assert at_floor["statefulness_difference"] == pytest.approx(0.9)
    neither = point_metrics(with_memory(remembered([0.01]), remembered([0.0]), "statefulness"), "mine")
    assert neither["statefulness_ratio"] is neither["statefulness_difference"] is None


def test_document_004_s_verdict_says_why_statefulness_counts_as_not_measured() -> None:
    rule = read_rule("groundthink-v5")
    neither = with_memory(remembered([0.01]), remembered([0.0]), "statefulness")
    assert "stand at the floor" in " ".join(judge_gate(neither, rule, None, [], []).verdicts[0].reasons)
    of = with_memory(remembered([0.9]), remembered([0.0]), "statefulness")
    assert "no ratio" in " ".join(judge_gate(of, rule, None, [], []).verdicts[0].reasons)


def result(name: str, *columns: Column) -> MeasurementResult:
    return MeasurementResult(
        measurement=name, measurement_version=1, question="?", unit="", group="memory", scope="run",
        measured=Measured(label="mine", seed=0), code=Code(kind="built-in", name="assay"), values={},
        columns=list(columns),
    )  # fmt: skip


def test_score_is_the_way_from_the_floor_to_perfect() -> None:
    run = run_of("mine", SIZES[0], 0, 2.0)
    assert score_of(run, "recall") is None
    column = Column(key="accuracy", head="accuracy", format="percent", value=0.75, floor=0.5)
    assert score_of(run.with_results([result("answers", column)]), "recall") == pytest.approx(0.5)
    assert score_of(run.with_results([result("choices", column)]), "recall") is None
    below = column.model_copy(update={"value": 0.2})
    assert score_of(run.with_results([result("answers", below)]), "recall") == 0, "worse than no memory is none"
    failed = dataclasses.replace(run, record=run.record.model_copy(update={"status": "diverged"}))
    assert score_of(failed.with_results([result("answers", column)]), "recall") is None


def test_long_context_is_compared_seed_by_seed() -> None:
    of = evidence()
    runs = dict(of.runs)
    for label, gained in (("mine", 0.05), ("gpt1", 0.0)):
        runs[label, SIZES[-1]] = {
            seed: run.with_results(
                [result("beyond", Column(key="long_context", head="", format="number", value=gained + 0.001 * seed))]
            )
            for seed, run in of.runs[label, SIZES[-1]].items()
        }
    criterion = Criterion(name="long context", column="long_context", compare="difference", at_least=0)
    found = judge_criterion(criterion, dataclasses.replace(of, runs=runs), "mine", None, 0.99)
    assert found.state == "PASS"
    assert found.value == pytest.approx(0.05)


def test_a_rule_brings_what_it_asks_for() -> None:
    plain = parse_rule({"name": "plain", "kind": "intervals"})
    assert (memory_tasks(plain), further_measurements(plain)) == ([], [])
    assert memory_tasks(plain, always=True) == ["recall", "statefulness"]
    assert further_measurements(plain, always=True) == ["beyond"]
    assert memory_tasks(read_rule("assay")) == ["recall", "statefulness"]
    assert further_measurements(read_rule("assay")) == ["beyond"]
    assert memory_tasks(read_rule("groundthink-v5")) == ["statefulness"]
    assert further_measurements(read_rule("groundthink-v5")) == ["beyond"]
    assert memory_tasks(read_rule("groundthink-v7")) == []


def test_a_rule_that_requires_it_is_undecided_at_the_floor() -> None:
    required = RECALL.model_copy(update={"required": True})
    rule = parse_rule({"name": "p", "kind": "intervals", "secondary": [required.model_dump()]})
    at_floor = evidence(1.5, memory={"recall": {"mine": remembered([0.0, 0.0]), "gpt1": remembered([0.0, 0.0])}})
    assert judge_gate(at_floor, rule, None, [], []).verdict == "UNDECIDED"
    good = evidence(1.5, memory={"recall": {"mine": remembered([0.9, 0.91]), "gpt1": remembered([0.5, 0.5])}})
    assert judge_gate(good, rule, None, [], []).verdict == "GO"
