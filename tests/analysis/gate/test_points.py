"""Rules on point estimates give the documents' verdicts on the documents' own example numbers."""

import pytest

from assay.analysis.gate.points import judge_points
from assay.analysis.gate.rule import PointRule, parse_rule, read_rule, rule_names
from assay.errors import RequestError


def rule(name: str) -> PointRule:
    found = read_rule(name)
    assert isinstance(found, PointRule)
    return found


V5 = [
    # "Statefulness: 30% better + Speed: 40% faster -> GO"; the document gives no loss, so it is the baseline's here
    ({"loss_ratio": 1.0, "statefulness_ratio": 1.3, "speed_ratio": 1.4, "memory_ratio": 1.0}, "GO"),
    # "Loss: 8% better + Memory: 40% less -> GO"
    ({"loss_ratio": 0.92, "statefulness_ratio": 1.0, "speed_ratio": 1.0, "memory_ratio": 1 / 0.6}, "GO"),
    # "All metrics Good Enough -> FIX FIRST"
    ({"loss_ratio": 1.15, "statefulness_ratio": 1.1, "speed_ratio": 1.2, "memory_ratio": 1.0}, "NO-GO"),
    # "Loss: 20% worse (even with speed) -> FIX FIRST"
    ({"loss_ratio": 1.2, "statefulness_ratio": 1.5, "speed_ratio": 2.0, "memory_ratio": 2.0}, "NO-GO"),
    # "Our 8M loss 3.5 vs GPT-2 2.7: architecture problems"
    ({"loss_ratio": 3.5 / 2.7, "statefulness_ratio": 2.0, "speed_ratio": 2.0, "memory_ratio": 2.0}, "NO-GO"),
]
FINE = {"spike_ratio": 1.2, "loss_over_size_below": 0.95}


@pytest.mark.parametrize(("metrics", "word"), V5)
def test_v5_on_its_own_examples(metrics: dict[str, float], word: str) -> None:
    assert judge_points(rule("groundthink-v5"), {**FINE, **metrics}).word == word


def test_v5_marks_are_those_of_its_table() -> None:
    verdict = judge_points(rule("groundthink-v5"), {**FINE, "loss_ratio": 2.8 / 2.7, "statefulness_ratio": 1.3,
                                                    "speed_ratio": 1.4, "memory_ratio": 1.0})  # fmt: skip
    assert [mark.grade for mark in verdict.marks] == ["promising", "promising", "good enough", "good enough"]
    assert verdict.graduates is True
    alone = judge_points(rule("groundthink-v5"), {**FINE, "loss_ratio": 1.1, "statefulness_ratio": 1.3,
                                                  "speed_ratio": 1.4, "memory_ratio": 1.0})  # fmt: skip
    assert (alone.word, alone.graduates) == ("GO", False), "the document's first example fails its own table"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss_ratio": 1.31}, "1.3 times"),
        ({"statefulness_ratio": 0.99}, "statefulness"),
        ({"spike_ratio": 2.1}, "spike"),
        ({"loss_over_size_below": 1.0}, "next smaller size"),
    ],
)
def test_each_red_line_stops_a_go(change: dict[str, float], reason: str) -> None:
    go = {**FINE, "loss_ratio": 0.9, "statefulness_ratio": 1.5, "speed_ratio": 2.0, "memory_ratio": 2.0}
    assert judge_points(rule("groundthink-v5"), go).word == "GO"
    verdict = judge_points(rule("groundthink-v5"), {**go, **change})
    assert verdict.word == "NO-GO"
    assert reason in verdict.reason


def test_what_was_not_measured_never_decides() -> None:
    known = {**FINE, "loss_ratio": 1.0, "speed_ratio": 1.5}
    verdict = judge_points(rule("groundthink-v5"), known)
    assert verdict.word == "UNDECIDED"
    assert set(verdict.missing) == {"statefulness_ratio", "memory_ratio"} or verdict.missing == ["statefulness_ratio"]
    assert judge_points(rule("groundthink-v5"), {**FINE, "loss_ratio": 1.2}).word == "NO-GO"  # whatever else there is


@pytest.mark.parametrize(("exponent", "word"), [(0.31, "GO"), (0.3, "UNDECIDED"), (0.2, "UNDECIDED"), (0.09, "NO-GO")])
def test_v7(exponent: float, word: str) -> None:
    assert judge_points(rule("groundthink-v7"), {"scaling_exponent": exponent}).word == word
    assert judge_points(rule("groundthink-v7"), {}).word == "UNDECIDED"


def test_rules_that_come_along_are_read() -> None:
    assert rule_names() == ["assay", "groundthink-v5", "groundthink-v7"]
    assert all(read_rule(name).name == name and read_rule(name).says for name in rule_names())


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"name": "x", "kind": "votes"}, "intervals or points would do"),
        ({"name": "x", "kind": "intervals", "levle": 0.9}, "did you mean 'level'"),
        ({"name": "x", "kind": "intervals", "secondary": [{"name": "s", "quantity": "trend"}]}, "at_least and at_most"),
        (
            {"name": "x", "kind": "points", "otherwise": {"verdict": "GO", "reason": ""},
             "decide": [{"when": [{"metric": "los_ratio", "above": 1}], "verdict": "GO", "reason": ""}]},
            "loss_ratio",
        ),
        ({"name": "x", "kind": ["intervals"]}, "intervals or points would do"),
        ({"name": "x", "kind": "intervals", "primary": 3}, "primary"),
        ({"name": "x", "kind": "intervals", "level": 2}, "level"),
        ({"name": "x", "kind": "intervals", "secondary": [{"name": "s", "quantity": "recal", "at_most": 0}]}, "recall"),
        ({"kind": "intervals"}, "name"),
        (
            {"name": "x", "kind": "points", "otherwise": {"verdict": "GO", "reason": ""},
             "decide": [{"when": [{"metric": "loss_ratio", "above": "much"}], "verdict": "GO", "reason": ""}]},
            "above",
        ),
        (
            {"name": "x", "kind": "points", "otherwise": {"verdict": "GO", "reason": ""},
             "decide": [{"when": [{"metric": "loss_ratio", "above": 1}], "verdict": "MAYBE", "reason": ""}]},
            "verdict",
        ),
        (
            {"name": "x", "kind": "points", "otherwise": {"verdict": "GO", "reason": ""},
             "grades": [{"metric": "los_ratio", "name": "loss", "good_enough": {"above": 1},
                         "promising": {"above": 1}, "excellent": {"above": 1}}],
             "decide": [{"when": [{"metric": "loss_ratio", "above": 1}], "verdict": "GO", "reason": ""}]},
            "did you mean 'loss_ratio'",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_rule_is_one_line(values: dict[str, object], part: str) -> None:
    with pytest.raises(RequestError, match=part) as caught:
        parse_rule(values, "--rule mine.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--rule mine.yaml: ")


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(RequestError, match="groundthink-v5"):
        read_rule("groundthink-v6")
