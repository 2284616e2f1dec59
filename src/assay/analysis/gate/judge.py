"""A gate's verdicts: each candidate by its gain at the largest size and by criteria, placebo and control too."""

from datetime import UTC, datetime
from typing import Any, Literal

from assay.analysis.gate.criteria import judge_criterion
from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.memory import why_not_told
from assay.analysis.gate.metrics import point_metrics
from assay.analysis.gate.planned import level_of_candidates, measured_plan
from assay.analysis.gate.points import judge_points
from assay.analysis.gate.rule import GateRule, IntervalRule, PointRule, Word
from assay.analysis.scaling.budget import level_of_each
from assay.analysis.scaling.gain import Gain, gain
from assay.analysis.scaling.ladder import Axis, Ladder
from assay.analysis.scaling.power_law import power_law
from assay.analysis.scaling.resolvable import seeds_to_close
from assay.analysis.scaling.trend import trend
from assay.analysis.wording import join_names, short
from assay.records.gate import CandidateVerdict, CriterionRecord, GainRecord, GatePlan, GateRecord

AXES: tuple[Axis, ...] = ("flops", "parameters", "seconds", "state_bytes")
PER = {"flops": "per FLOP", "parameters": "per parameter", "seconds": "per second", "state_bytes": "per byte of state"}
Role = Literal["candidate", "placebo", "control"]


def judge_gate(
    evidence: Evidence, rule: GateRule, plan: GatePlan | None, prediction: list[str], changed: list[str]
) -> GateRecord:
    """All verdicts; the word of the gate is that of its candidates together."""
    roles: list[tuple[str, Role]] = [(label, "candidate") for label in evidence.candidates]
    roles += [(label, "placebo") for label in evidence.placebo]
    if evidence.control:
        roles.append((evidence.control, "control"))
    before = plan.unsound if plan is not None else {}
    verdicts = [judge_candidate(evidence, rule, label, role, plan) for label, role in roles]
    verdicts += [unsound_verdict(label, why) for label, why in before.items()]
    doubts = [*evidence.doubts, *_doubts_of_checks(verdicts)]
    of_candidates = [verdict.verdict for verdict in verdicts if verdict.role == "candidate"]
    word: Word = "GO" if "GO" in of_candidates else "UNDECIDED" if "UNDECIDED" in of_candidates else "NO-GO"
    return GateRecord(
        verdict=word,
        headline=[verdict.sentence for verdict in verdicts] + [f"Doubt: {doubt}." for doubt in doubts],
        baseline=evidence.baseline,
        rule=rule.model_dump(mode="json"),
        verdicts=verdicts,
        arms=evidence.arms(),
        power_laws=_power_laws(evidence),
        prediction=prediction,
        changed=[*changed, *evidence.notes],
        plan_digest=plan.digest if plan else None,
        concluded=datetime.now(UTC).date().isoformat(),
    )


def _doubts_of_checks(verdicts: list[CandidateVerdict]) -> list[str]:
    """Where the placebo was told from the baseline, or the control was found no worse."""
    found = []
    for verdict in verdicts:
        if verdict.role == "placebo" and verdict.verdict != "UNDECIDED":
            found.append(
                f"the placebo, which is the baseline again, came out {verdict.verdict}: that happens by chance in one "
                "gate of twenty, and oftener where something is wrong with it"
            )
        if verdict.role == "control" and verdict.verdict == "GO":
            found.append("the baseline on half the tokens came out GO, so nothing here can be relied on")
        if verdict.role == "control" and verdict.verdict == "UNDECIDED":
            found.append("the baseline on half the tokens was not told from the whole one: this gate resolves little")
    return found


def judge_candidate(
    evidence: Evidence, rule: GateRule, label: str, role: Role, plan: GatePlan | None
) -> CandidateVerdict:
    """An unsound one is NO-GO at once; nothing is decided where its losses cannot be compared."""
    if label in evidence.unsound:
        return unsound_verdict(label, evidence.unsound[label], role)
    if (why := evidence.unsound.get(evidence.baseline)) is not None:
        return _undecided(label, role, f"the baseline {evidence.baseline} is unsound: {why}")
    if isinstance(rule, PointRule):
        return _by_points(evidence, rule, label, role)
    return _by_intervals(evidence, rule, label, role, plan)


def unsound_verdict(label: str, why: str, role: Role = "candidate") -> CandidateVerdict:
    """Of an arm that cheats: whatever its losses are, they count for nothing."""
    said = f"{label}: NO-GO, it is unsound: {why}"
    return CandidateVerdict(label=label, role=role, verdict="NO-GO", sentence=said, reasons=[why], unsound=why)


def _undecided(label: str, role: Role, why: str) -> CandidateVerdict:
    said = f"{label}: UNDECIDED, {why}."
    return CandidateVerdict(label=label, role=role, verdict="UNDECIDED", sentence=said, reasons=[why])


def _by_points(evidence: Evidence, rule: PointRule, label: str, role: Role) -> CandidateVerdict:
    if evidence.doubts:
        return _undecided(label, role, join_names(evidence.doubts))
    metrics: dict[str, float | None] = point_metrics(evidence, label)
    found = judge_points(rule, metrics)
    graduates = {True: "graduates by its marks", False: "does not graduate by its marks", None: ""}[found.graduates]
    said = [*([graduates] if graduates else []), *found.lists, *_why_no_statefulness(evidence, label, metrics)]
    reasons = [found.reason, *said, *(f"caveat: {caveat}" for caveat in rule.caveats)]
    marks: list[dict[str, Any]] = [mark._asdict() for mark in found.marks]
    return CandidateVerdict(
        label=label, role=role, verdict=found.word, reasons=reasons, marks=marks, metrics=metrics,
        sentence=f"{label}: {found.word} by {rule.name}: {found.reason}.",
    )  # fmt: skip


def _why_no_statefulness(evidence: Evidence, label: str, metrics: dict[str, float | None]) -> list[str]:
    """Why a ratio of it counts as not measured, although runs were made for it."""
    if metrics["statefulness_ratio"] is not None or "statefulness" not in evidence.memory:
        return []
    why = why_not_told("statefulness", evidence.memory, label, evidence.baseline)
    return [f"statefulness: {why or 'the baseline stands at the floor, so that there is no ratio to it'}"]


def _by_intervals(
    evidence: Evidence, rule: IntervalRule, label: str, role: Role, plan: GatePlan | None
) -> CandidateVerdict:
    try:
        ladder = evidence.ladder(label)
    except (ValueError, KeyError) as error:
        return _without_ladder(evidence, rule, label, role, str(error))
    level = level_of_candidates(rule, len(evidence.candidates))
    gains = [_record(gain(ladder, rung, axis, level), size, axis) for axis in AXES
             for rung, size in enumerate(evidence.sizes)]  # fmt: skip
    # The control has the baseline's compute at half the tokens, which is no worse bargain: its size is what counts.
    axis: Axis = "parameters" if role == "control" else rule.primary.per
    top = gain(ladder, len(evidence.sizes) - 1, axis, level)
    along = trend(ladder, "flops", rule.trend_margin, level)
    each = level_of_each(level, len(rule.secondary))
    criteria = [] if role != "candidate" else [
        judge_criterion(criterion, evidence, label, along, each) for criterion in rule.secondary
    ]  # fmt: skip
    word, reasons = _decide(top, rule, criteria, axis, evidence)
    return CandidateVerdict(
        label=label,
        role=role,
        verdict=word,
        sentence=_sentence(label, role, word, top, axis, evidence, reasons),
        reasons=reasons,
        gains=[one for one in gains if one is not None],
        trend="" if along is None else along.text(),
        criteria=criteria,
        closing="" if word != "UNDECIDED" or top is None else _closing(top, rule, ladder, plan, criteria),
        metrics=point_metrics(evidence, label),
    )


def _without_ladder(evidence: Evidence, rule: IntervalRule, label: str, role: Role, error: str) -> CandidateVerdict:
    """Where runs diverged there is no gain: the candidate's own are its failure, the baseline's decide nothing."""
    own = evidence.diverged(label)
    stable = any(criterion.quantity == "diverged_runs" and criterion.required for criterion in rule.secondary)
    if own and stable and not evidence.diverged(evidence.baseline):
        why = f"{own} of its runs diverged"
        said = f"{label}: NO-GO, {why}."
        return CandidateVerdict(label=label, role=role, verdict="NO-GO", sentence=said, reasons=[why])
    why = f"{own} of its runs and {evidence.diverged(evidence.baseline)} of the baseline's diverged" if own else error
    return _undecided(label, role, why)


def _decide(
    top: Gain | None, rule: IntervalRule, criteria: list[CriterionRecord], axis: Axis, evidence: Evidence
) -> tuple[Word, list[str]]:
    """The primary criterion, then those that GO needs."""
    if evidence.doubts:
        return "UNDECIDED", list(evidence.doubts)
    if top is None:
        return "UNDECIDED", [f"no gain {PER[axis]} can be read: the baseline's cost does not grow along its sizes"]
    worthwhile = rule.primary.worthwhile
    failed = [one.text for one in criteria if one.required and one.state == "FAIL"]
    open_ = [one.text for one in criteria if one.required and one.state == "OPEN"]
    said = f"gain {PER[axis]} {top.text()}"
    if top.high is not None and top.high < worthwhile:
        return "NO-GO", [f"{said}: all of it below {worthwhile:g}", *failed]
    if failed:
        return "NO-GO", [*failed, said]
    if top.low is not None and top.low > worthwhile:
        return ("UNDECIDED", [*open_, said]) if open_ else ("GO", [f"{said}: all of it above {worthwhile:g}"])
    return "UNDECIDED", [f"{said}: not told from {worthwhile:g}", *open_]


def _sentence(
    label: str, role: Role, word: Word, top: Gain | None, axis: Axis, evidence: Evidence, reasons: list[str]
) -> str:
    """ "mine: GO. At 0.5M it reaches gpt1's loss with 1/1.23 of the compute (1.23 times, 95% 1.10 to 1.38)."."""
    size = short(evidence.sizes[-1])
    expected: dict[Role, str] = {
        "candidate": "",
        "placebo": " (the baseline again: UNDECIDED is right)",
        "control": " (the baseline on half the tokens: NO-GO is right)",
    }
    if top is None or evidence.doubts:
        return f"{label}{expected[role]}: {word}, {join_names(reasons)}."
    gained = f"gain {PER[axis]} over {evidence.baseline} at {size}: {top.text()}"
    rest = [reason for reason in reasons if not reason.startswith("gain")]
    return f"{label}{expected[role]}: {word}, {gained}{'; ' + join_names(rest) if rest else ''}."


def _record(found: Gain | None, size: int, axis: Axis) -> GainRecord | None:
    if found is None:
        return None
    return GainRecord(
        size=size, per=axis, factor=found.factor, low=found.low, high=found.high, extrapolated=found.extrapolated,
        level=found.level, text=found.text(),
    )  # fmt: skip


def _closing(
    top: Gain, rule: IntervalRule, ladder: Ladder, plan: GatePlan | None, criteria: list[CriterionRecord]
) -> str:
    """What further runs would decide it, and at what cost."""
    if top.low is not None and top.low > rule.primary.worthwhile:  # only criteria that GO needs are open
        return " ".join(f"{one.name}: {one.closing}." for one in criteria if one.required and one.state == "OPEN")
    if top.factor is None:
        return "The baseline's loss does not bracket the candidate's here: other sizes would be needed."
    of = measured_plan(ladder, rule, top.level)
    needed = None if of is None else seeds_to_close(of, top.factor)
    if needed is None:
        return "No number of seeds up to 1,000 would tell a gain this close to the threshold, at these sizes."
    runs = sum(stage.seconds for stage in plan.stages if stage.kind == "judged") if plan else 0.0
    seeds = len(ladder.seeds)
    cost = f", some {runs / seeds * needed.high / 3600:.1f} h on this machine" if runs else ""
    return f"A new gate of {needed.low} to {needed.high} seeds (here {seeds}) would tell a gain as seen{cost}."


def _power_laws(evidence: Evidence) -> list[str]:
    """Of each arm; no verdict rests on it."""
    said = []
    for label in evidence.candidates:
        try:
            ladder = evidence.ladder(label)
        except (ValueError, KeyError):
            continue
        for arm in ("baseline", "candidate"):
            law = power_law(ladder, arm, "parameters")
            if law is not None:
                name = evidence.baseline if arm == "baseline" else label
                said.append(law.text().replace(f"{arm}:", f"{name}:", 1))
    return list(dict.fromkeys(said))
