"""The first screen of a gate's page: by how much, how surely, at what cost, and what would change the verdict."""

import statistics
from collections.abc import Sequence

from assay.analysis.wording import counted, join_names, short
from assay.records.gate import CandidateVerdict, GainRecord, GatePlan, GateRecord
from assay.report import quantities

COMPUTE = {"flops": "compute", "parameters": "parameters", "seconds": "training time", "state_bytes": "state"}


def summary(record: GateRecord, verdict: CandidateVerdict, plan: GatePlan | None) -> list[tuple[str, str]]:
    """Question and answer of one candidate; what is not known is left out."""
    top = _top(record, verdict)
    rows = [
        ("By how much", _how_much(record, verdict, top)),
        ("How surely", _how_surely(verdict, top, record)),
        ("At what cost", _cost(record, verdict, plan)),
        ("What would change it", what_would_change(record, verdict, top)),
    ]
    return [(question, answer) for question, answer in rows if answer]


def _top(record: GateRecord, verdict: CandidateVerdict) -> GainRecord | None:
    """The gain that the rule decides by: at the largest size, per what the rule names."""
    per = record.rule.get("primary", {}).get("per", "flops")
    of = [gain for gain in verdict.gains if gain.per == per]
    return max(of, key=lambda gain: gain.size, default=None)


def _how_much(record: GateRecord, verdict: CandidateVerdict, top: GainRecord | None) -> str:
    sizes = [arm.size for arm in record.arms if arm.label == verdict.label and arm.losses]
    said = []
    if top is not None and top.factor is not None:
        what = COMPUTE[top.per]
        said.append(
            f"At {short(top.size)}, {record.baseline} needs {top.factor:.3g} times the {what} for the same loss"
        )
    if sizes:
        losses = {arm.label: arm.losses for arm in record.arms if arm.size == max(sizes)}
        ours, theirs = losses.get(verdict.label), losses.get(record.baseline)
        if ours and theirs:
            difference = statistics.fmean(ours.values()) - statistics.fmean(theirs.values())
            at = "" if said else f" at {short(max(sizes))}"
            side = "below" if difference < 0 else "above"
            said.append(f"its loss{at} is {abs(difference):.4f} nats per token {side} {record.baseline}'s")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _how_surely(verdict: CandidateVerdict, top: GainRecord | None, record: GateRecord) -> str:
    said = []
    if top is not None and (top.low is not None or top.high is not None):
        seeds = max((len(arm.losses) for arm in record.arms if arm.label == verdict.label), default=0)
        low, high = (f"{end:.3g}" if end is not None else "no bound" for end in (top.low, top.high))
        said.append(
            f"{100 * top.level:g}% of such intervals hold the truth: {low} to {high}, over {counted(seeds, 'seed')}."
        )
    elif top is not None:
        said.append("These runs bound the gain on neither side.")
    elif record.rule["kind"] == "points":
        said.append("Not known: this rule decides by point estimates, without an interval.")
    for state in ("FAIL", "OPEN", "PASS"):
        names = [one.name for one in verdict.criteria if one.state == state]
        if names:
            said.append(f"{state}: {join_names(names)}.")
    return " ".join(said)


def _cost(record: GateRecord, verdict: CandidateVerdict, plan: GatePlan | None) -> str:
    flops = sum(arm.flops * len(arm.losses) for arm in record.arms)
    said = [f"{quantities.flops(flops)} in judged runs"] if flops else []
    if plan is not None:
        said.append(f"{counted(sum(stage.runs for stage in plan.stages), 'run')} in all")
    said += [line.removeprefix("Time: ").removesuffix(".") for line in record.prediction if line.startswith("Time:")]
    per = record.rule.get("primary", {}).get("per")
    seconds = [gain for gain in verdict.gains if gain.per == "seconds" and gain.per != per and gain.factor is not None]
    if seconds:
        last = max(seconds, key=lambda gain: gain.size)
        said.append(f"per second on this machine its gain is {last.text}")
    return "; ".join(said) + "." if said else ""


def what_would_change(record: GateRecord, verdict: CandidateVerdict, top: GainRecord | None) -> str:
    """From the reasons of the verdict: which threshold, criterion or further run would make it another."""
    if verdict.unsound:
        return "A candidate without what the audit found; no training would."
    if record.rule["kind"] == "points" and verdict.verdict != "UNDECIDED":
        return f"Other numbers in what decided it: {verdict.reasons[0]}."
    if verdict.verdict == "UNDECIDED":
        return verdict.closing or _marks_missing(verdict)
    failed = [one.name for one in verdict.criteria if one.required and one.state == "FAIL"]
    said = []
    if failed:
        said.append(f"{join_names(failed)}, which the rule requires.")
    if top is not None:
        worthwhile = record.rule.get("primary", {}).get("worthwhile", 1.0)
        if verdict.verdict == "GO" and top.low is not None:
            said.append(f"A rule that asks for a gain of {top.low:.3g} or more, in place of {worthwhile:g}.")
        elif top.high is not None and top.high < worthwhile:
            said.append(f"A rule content with a gain of {top.high:.3g}, in place of {worthwhile:g}; no further seeds.")
    return " ".join([*said, *_trend(verdict.trend)])


def _trend(text: str) -> Sequence[str]:
    """Where the gain goes with size, as no ladder says what happens beyond it."""
    return [f"Along the sizes: {text.removesuffix('.')}."] if text else []


def _marks_missing(verdict: CandidateVerdict) -> str:
    missing = [str(mark["name"]) for mark in verdict.marks if mark["value"] is None]
    return f"A measurement of {join_names(missing)}." if missing else ""
