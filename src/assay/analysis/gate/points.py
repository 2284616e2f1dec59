"""A rule on point estimates: red lines, marks, and the clause that decides, as the documents' gates have them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.analysis.gate.rule import Clause, Condition, Grade, PointRule, Word
from assay.analysis.wording import join_names

Metrics = Mapping[str, float | None]
"""Name -> value; one that is missing or None was not measured."""


class Mark(NamedTuple):
    """What one metric reached."""

    name: str
    value: float | None
    grade: str
    """excellent, promising, good enough, short of all, or not measured."""


class PointVerdict(NamedTuple):
    """What a rule on point estimates comes to."""

    word: Word
    reason: str
    red_lines: list[str]
    marks: list[Mark]
    graduates: bool | None
    """Whether the marks are enough; None where there is no such demand, or where what was not measured decides it."""
    missing: list[str]
    """Metrics that the verdict waits for."""
    lists: list[str] = []
    """What became of the document's lists of triggers and requirements, which decide nothing."""


def judge_points(rule: PointRule, metrics: Metrics) -> PointVerdict:
    """Red lines first, then the first clause that holds.

    What was not measured never counts as kept or as broken: where the verdict hangs on it, the verdict is UNDECIDED.
    """
    crossed = [stop.reason for stop in rule.stop if _holds(stop, metrics) is True]
    marks = [_mark(grade, metrics.get(grade.metric)) for grade in rule.grades]
    graduates = _graduates(rule, marks)
    lists = _lists(rule, metrics)
    if crossed:
        return PointVerdict("NO-GO", f"red line: {join_names(crossed)}", crossed, marks, graduates, [], lists)
    word, reason, missing = _decide(rule, metrics)
    if word == "GO" and (open_ := _unknown([stop for stop in rule.stop if _holds(stop, metrics) is None], metrics)):
        word, reason, missing = "UNDECIDED", f"{reason}, but red lines hang on what was not measured", open_
    return PointVerdict(word, reason, crossed, marks, graduates, missing, lists)


def _lists(rule: PointRule, metrics: Metrics) -> list[str]:
    """A line for each fail trigger and each requirement of a pass."""
    states: dict[bool | None, str] = {True: "pulled", False: "not pulled", None: "not measured"}
    found = [f"fail trigger {states[_holds(one, metrics)]}: {one.reason}" for one in rule.fail_triggers]
    states = {True: "met", False: "not met", None: "not measured"}
    return found + [f"asked of a pass, {states[_holds(one, metrics)]}: {one.name}" for one in rule.pass_requires]


def _decide(rule: PointRule, metrics: Metrics) -> tuple[Word, str, list[str]]:
    waits: list[Clause] = []
    for clause in rule.decide:
        held = [_holds(condition, metrics) for condition in clause.when]
        if False in held:
            continue
        if None not in held:
            if all(other.verdict == clause.verdict for other in waits):
                return clause.verdict, clause.reason, []
            break
        waits.append(clause)
    else:
        if all(clause.verdict == rule.otherwise.verdict for clause in waits):
            return rule.otherwise.verdict, rule.otherwise.reason, []
    missing = _unknown([condition for clause in waits for condition in clause.when], metrics)
    return "UNDECIDED", f"hangs on {join_names(missing)}, not measured", missing


def _holds(condition: Condition, metrics: Metrics) -> bool | None:
    """None where it hangs on a metric that was not measured."""
    if condition.metric is not None:
        value = metrics.get(condition.metric)
        return None if value is None else condition.hold(value)
    above, at_least = condition.above or 0.0, condition.at_least or 0.0
    values = [metrics.get(name) for name in condition.count]
    sure = sum(value is not None and value > above for value in values)
    if sure >= at_least:
        return True
    return None if sure + values.count(None) >= at_least else False


def _unknown(conditions: Sequence[Condition], metrics: Metrics) -> list[str]:
    names = [name for of in conditions for name in ([of.metric] if of.metric else of.count)]
    return [name for name in dict.fromkeys(names) if metrics.get(name) is None]


def _mark(grade: Grade, value: float | None) -> Mark:
    if value is None:
        return Mark(grade.name, None, "not measured")
    for name in ("excellent", "promising", "good_enough"):
        if getattr(grade, name).hold(value):
            return Mark(grade.name, value, name.replace("_", " "))
    return Mark(grade.name, value, "short of all")


def _graduates(rule: PointRule, marks: Sequence[Mark]) -> bool | None:
    if rule.graduation is None:
        return None
    grades = [mark.grade for mark in marks]

    def enough(excellent: int, promising: int) -> bool:
        asked = rule.graduation
        return asked is not None and (excellent >= asked.excellent or promising + excellent >= asked.promising)

    excellent, promising, unknown = (grades.count(name) for name in ("excellent", "promising", "not measured"))
    if enough(excellent, promising):
        return True
    return None if enough(excellent + unknown, promising) else False
