"""A finished gate, or a study with several sizes, judged by a rule from its records; no torch."""

from pathlib import Path
from typing import Any

from assay.analysis.gate.evidence import gate_evidence, study_evidence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.prediction import outcome
from assay.analysis.gate.rule import DEFAULT_RULE, parse_rule, read_rule
from assay.errors import RequestError
from assay.records.gate import GatePlan, GateRecord
from assay.records.sanity import Sanity
from assay.report.gate import write_gate_page

PLAN, GATE = "plan.json", "gate.json"


def judge_again(folder: Path, against: str | None, rule: str | None) -> tuple[GateRecord, Path]:
    """The verdict of `rule` (None: as planned, or the default), written beside the runs; and the folder."""
    given: dict[str, Any] | None = None if rule is None else read_rule(rule).model_dump(mode="json")
    if (folder / PLAN).exists():
        plan = GatePlan.read(folder / PLAN)
        if against not in (None, plan.baseline):
            raise RequestError(f"--against {against}: this gate's baseline is {plan.baseline}; leave it out")
        return conclude(folder, plan, given or plan.rule), folder
    if not (folder / "study.json").exists():
        raise RequestError(f"{folder}: holds no finished gate and no finished study; `assay gate` makes one")
    found = parse_rule(given or read_rule(DEFAULT_RULE).model_dump(mode="json"))
    record = judge_gate(
        study_evidence(folder, against), found, None, [], ["the rule was chosen after the study had run"]
    )
    record.write(folder / GATE)
    write_gate_page(record, None, folder)
    return record, folder


def conclude(folder: Path, plan: GatePlan, rule: dict[str, Any]) -> GateRecord:
    """Judge the runs of a gate, and write gate.json and the page."""
    changed = []
    if plan.digest_now() != plan.digest:
        changed.append("plan.json was edited after it was written (its digest differs)")
    if rule != plan.rule:
        changed.append(f"judged by another rule than planned: {rule['name']} in place of {plan.rule['name']}")
    evidence = gate_evidence(folder, plan)
    record = judge_gate(evidence, parse_rule(rule), plan, outcome(folder, plan, evidence), changed)
    failed, made = checks(folder, plan)
    record = record.model_copy(update={"sanity": failed, "checks": made})
    record.write(folder / GATE)
    write_gate_page(record, plan, folder)
    return record


def checks(folder: Path, plan: GatePlan) -> tuple[list[str], int]:
    """What failed in the short trainings of candidates before each size, and how many checks there were."""
    failed, made = list[str](), 0
    for stage in plan.stages:
        if stage.kind == "sanity":
            for path in sorted((folder / stage.name).glob("*/sanity.json")):
                sanity = Sanity.read(path)
                made += len(sanity.findings)
                failed += [
                    f"{stage.name}: {sanity.arm}: {finding.check}: {finding.reason}"
                    for finding in sanity.findings
                    if finding.status == "fail"
                ]
    return failed, made
