"""The first screen of a gate's page answers four questions, whatever the verdict is."""

import re
from pathlib import Path

import pytest

from analysis.gate.ladders import evidence, with_divergence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.rule import parse_rule, read_rule
from assay.records.gate import GateRecord
from assay.report.gate import write_gate_page
from assay.report.gate_summary import summary

TIME = "Time: 27.1 min, predicted 30.0 min, -10%."


def judged(gain: float, rule: str = "assay") -> GateRecord:
    return judge_gate(evidence(gain), read_rule(rule), None, [TIME], [])


def answers(record: GateRecord) -> dict[str, str]:
    return dict(summary(record, record.verdicts[0], None))


@pytest.mark.parametrize(
    ("gain", "word", "change"),
    [(1.5, "GO", "a gain of 1.4"), (1 / 1.5, "NO-GO", "content with a gain of 0.6"), (1.0, "UNDECIDED", "seeds")],
)
def test_four_questions_are_answered(gain: float, word: str, change: str) -> None:
    record = judged(gain)
    found = answers(record)
    assert record.verdict == word
    assert list(found) == ["By how much", "How surely", "At what cost", "What would change it"]
    assert re.search(r"At 0\.4M, gpt1 needs \d\S* times the compute", found["By how much"])
    assert ("below" if gain > 1.1 else "above" if gain < 0.9 else "gpt1's") in found["By how much"]
    assert "over 4 seeds" in found["How surely"]
    assert "OPEN: statefulness, recall" in found["How surely"]
    assert "27.1 min, predicted 30.0 min" in found["At what cost"]
    assert change in found["What would change it"]


def test_rule_by_points_says_that_it_is_not_sure() -> None:
    found = answers(judged(1.5, "groundthink-v5"))
    assert "without an interval" in found["How surely"]
    assert "statefulness" in found["What would change it"]


def test_decision_by_points_names_what_decided() -> None:
    record = judged(0.01, "groundthink-v5")
    assert record.verdict == "NO-GO"
    assert answers(record)["What would change it"].startswith("Other numbers in what decided it: ")


def test_required_criterion_that_failed_would_change_it() -> None:
    record = judge_gate(with_divergence(evidence(1.5), "mine", 100_000), read_rule("assay"), None, [], [])
    assert record.verdict == "NO-GO"
    assert "At what cost" in answers(record)
    state = {"name": "state", "quantity": "state_bytes", "compare": "ratio", "at_most": 0.5, "required": True}
    rule = parse_rule({"name": "small", "kind": "intervals", "secondary": [state]})
    failed = judge_gate(evidence(1.5), rule, None, [], [])
    assert failed.verdict == "NO-GO"
    assert answers(failed)["What would change it"].startswith("state, which the rule requires")


def test_unsound_one_is_not_helped_by_training() -> None:
    record = judge_gate(evidence(2.0, unsound={"mine": "reads the future"}), read_rule("assay"), None, [], [])
    assert "no training would" in answers(record)["What would change it"]


def test_it_stands_on_the_page_before_the_figures(tmp_path: Path) -> None:
    page = write_gate_page(judged(1.5), None, tmp_path).read_text(encoding="utf-8")
    assert page.index("What would change it") < page.index("<svg")
