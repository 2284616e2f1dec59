"""A gate from request to verdict: audits, plan, tuning, judged runs, page. It continues where it stopped."""

import os
import shutil
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from assay.analysis.gate.judge import unsound_verdict
from assay.analysis.gate.prediction import CLOCK
from assay.analysis.gate.tuned import MOST_EXTENSIONS, chosen_at, rates_around, rounded, tuning_by_size
from assay.analysis.wording import join_names, short
from assay.errors import RequestError
from assay.gating.asked import CONTROL, GateRequest
from assay.gating.branches import carry_out_branches
from assay.gating.clock import note_seconds
from assay.gating.memory import MEMORY_TASKS, memory_study
from assay.gating.plan import make_plan
from assay.gating.sizes import least_size, refuse_sizes
from assay.gating.stages import Rates, arms_of, carry_out_runs, study_of
from assay.gating.timing import TIMING, TIMINGS
from assay.records import is_part
from assay.records.gate import GatePlan, GateRecord, Stage
from assay.records.sanity import Sanity
from assay.report.gate import write_gate_page
from assay.study.asked import StudyConfig
from assay.study.audits import audit_fresh
from assay.study.compare import Listener, compare_at_full_budget
from assay.study.folder import discard, lock
from assay.study.resolve import resolve
from assay.study.sanity.check import FILE, check
from assay.study.spec import slug
from assay.verdict import GATE, PLAN, conclude


def carry_out_gate(
    request: GateRequest, folder: Path, listener: Listener, workers: int | None = None, dry_run: bool = False
) -> GateRecord | GatePlan:
    """Carry out the gate in `folder`, or what is missing of it; with `dry_run` only its plan.

    Another request in the same folder is a RequestError. The plan is written before the first judged step and obeyed
    ever after; a rule given later judges the same runs and is shown as another than planned.
    """
    refuse_other_files(folder)
    began = time.monotonic()
    unsound = {} if stored_plan(folder) else audited(request, listener)
    audit_seconds = (time.monotonic() - began) / (1 + len(request.candidates))
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            _remove_parts(folder)
            plan = stored_plan(folder) or _planned(request, unsound, folder, listener, workers, audit_seconds)
            if plan is None:
                return _none_is_sound(request, unsound, folder)
            if plan.asked != request.identity():
                raise RequestError(
                    f"--out {folder}: holds another gate (its arms, sizes or protocol differ); a new folder would do"
                )
            if dry_run:
                return plan
            _carry_out(request, plan, folder, listener)
            return conclude(folder, plan, request.rule.model_dump(mode="json"))
    except RequestError:
        if not any(folder.glob("*/runs")):
            discard(made)
        raise


def _planned(
    request: GateRequest,
    unsound: Mapping[str, str],
    folder: Path,
    listener: Listener,
    workers: int | None,
    audit_seconds: float,
) -> GatePlan | None:
    """The plan for those that are sound, written; None where none is."""
    sound = [arm for arm in request.candidates if arm.label not in unsound]
    if not sound:
        return None
    plan = make_plan(replace(request, candidates=sound), folder, listener, workers, audit_seconds)
    plan = plan.model_copy(update={"unsound": dict(unsound), "asked": request.identity()}).sealed()
    plan.write(folder / PLAN)
    return plan


def stored_plan(folder: Path) -> GatePlan | None:
    """The plan that lies there."""
    return GatePlan.read(folder / PLAN) if (folder / PLAN).exists() else None


def _carry_out(request: GateRequest, plan: GatePlan, folder: Path, listener: Listener) -> None:
    base = StudyConfig.parse({name: value for name, value in plan.config.items() if value is not None})
    for stage in plan.stages:
        place = folder / stage.name
        began = time.monotonic()
        if stage.kind == "pilot":  # it ran before the plan was written
            continue
        listener.message(f"{stage.name}: {stage.runs} runs")
        if stage.kind == "tuning":
            _tune(request, stage, {arm: list(stage.rates) for arm in stage.arms}, plan, folder, listener, base)
        elif stage.kind == "check":
            grid = next(of for of in plan.stages if of.kind == "tuning")
            first = chosen_at(folder, grid, plan.noise.nats, stage.size)
            _refuse_untuned(stage.arms, first)
            _tune(request, stage, rates_around(first, plan.rates), plan, folder, listener, base)
        elif stage.kind == "branches":
            carry_out_branches(stage, folder, listener, plan.workers)
        else:
            tried = tuning_by_size(folder, plan)
            _refuse_untuned(
                [arm for arm in stage.arms if arm != CONTROL], {arm for arm, of in tried if of == stage.size}
            )
            rates = {
                arm: [rounded(tried[plan.baseline if arm == CONTROL else arm, stage.size].chosen().rate)]
                for arm in {*stage.arms, plan.baseline}
            }
            if stage.kind in MEMORY_TASKS:
                one = {arm: rates[arm][0] for arm in stage.arms}
                carry_out_runs(memory_study(stage, arms_of(request), one, base), place, listener, plan.workers)
            elif stage.kind == "sanity":
                _check_sanity(request, stage, rates, plan, folder, listener, base)
            else:
                largest = stage.kind == "judged" and stage.size == plan.sizes[-1]
                asked = study_of(request, stage, rates, base, [plan.inference, *plan.further] if largest else [])
                compare_at_full_budget(asked, place, listener, plan.workers)
        note_seconds(folder, stage.name, time.monotonic() - began)


def _tune(
    request: GateRequest,
    stage: Stage,
    rates: Rates,
    plan: GatePlan,
    folder: Path,
    listener: Listener,
    base: StudyConfig,
) -> None:
    """Run the grid; where an arm's best rate lies at an end, one more rate on that side for all arms, at most twice."""
    carry_out_runs(study_of(request, stage, rates, base), folder / stage.name, listener, plan.workers)
    step = (max(plan.rates) / min(plan.rates)) ** (1 / (len(plan.rates) - 1))
    low, high = ({arm: end(of) for arm, of in rates.items()} for end in (min, max))
    for turn in range(1, MOST_EXTENSIONS + 1):
        chosen = chosen_at(folder, stage, plan.noise.nats)
        sides = {of.at_an_edge for of in chosen.values()} - {None}
        if not sides:
            return
        more: dict[str, list[float]] = {arm: [] for arm in stage.arms}
        for arm in stage.arms:
            if "lowest" in sides:
                low[arm] = rounded(low[arm] / step)
                more[arm].append(low[arm])
            if "highest" in sides:
                high[arm] = rounded(high[arm] * step)
                more[arm].append(high[arm])
        ends = [f"{label} (the {of.at_an_edge})" for label, of in chosen.items() if of.at_an_edge]
        listener.notice(f"{stage.name}: best at an end of its rates: {join_names(ends)}; one more rate for all arms")
        place = folder / f"{stage.name}-wider{turn}"
        carry_out_runs(study_of(request, stage, more, base), place, listener, plan.workers)


def _check_sanity(
    request: GateRequest,
    stage: Stage,
    rates: Rates,
    plan: GatePlan,
    folder: Path,
    listener: Listener,
    base: StudyConfig,
) -> None:
    """Short trainings of each candidate beside the baseline, with the rates of the judged runs; read where done."""
    judged = next(of for of in plan.stages if of.kind == "judged" and of.size == stage.size)
    both = judged.model_copy(update={"arms": [plan.baseline, *stage.arms]})
    config = study_of(request, both, rates, base)
    study = resolve(config, lambda _: None)
    arms = {arm.label: arm for arm in study.arms}
    smaller = [size for size in plan.sizes if size < stage.size]
    for label in stage.arms:
        below = None
        if smaller:
            below = Sanity.read(folder / f"sanity-{short(smaller[-1])}" / slug(label) / FILE)
        place = folder / stage.name / slug(label)
        if (place / FILE).exists():  # of an assay that is older by now, perhaps: it is read like any finished run
            continue
        found = check(study, arms[label], arms[plan.baseline], place, listener.message, below)
        for finding in found.findings:
            if finding.status == "fail":
                listener.notice(f"{stage.name}: {label}: {finding.check}: {finding.reason}")


def _refuse_untuned(arms: Sequence[str], chosen: Container[str]) -> None:
    if missing := [arm for arm in arms if arm not in chosen]:
        raise RequestError(f"--lr: {join_names(missing)} diverged with every rate; a grid of lower ones would do")


def audited(request: GateRequest, listener: Listener) -> dict[str, str]:
    """Audit every arm at the smallest size before anything is trained: candidate -> what it does that it must not.

    A baseline that cheats is a RequestError: nothing can be judged against it.
    """
    if request.sizes:
        refuse_sizes(request, request.study)
    sizes = request.sizes or [least_size(request, request.study)]
    arms = [request.baseline, *request.candidates]
    study = resolve(
        request.study.model_copy(update={"arms": arms, "size": min(sizes), "sizes": [], "seeds": [0]}), listener.message
    )
    unsound = {}
    for arm in study.arms:
        listener.message(f"audit of {arm.label}")
        audit = audit_fresh(study, arm, 0)
        if not audit.sound and arm.label == request.baseline.label:
            raise RequestError(f"--against {arm.label}: is unsound: {audit.summary}; a sound baseline would do")
        if not audit.sound:
            unsound[arm.label] = audit.summary
            listener.notice(f"{arm.label}: NO-GO, unsound: {audit.summary}")
    return unsound


def _none_is_sound(request: GateRequest, unsound: Mapping[str, str], folder: Path) -> GateRecord:
    """Nothing is planned or trained."""
    verdicts = [unsound_verdict(label, why) for label, why in unsound.items()]
    record = GateRecord(
        verdict="NO-GO",
        headline=[verdict.sentence for verdict in verdicts],
        baseline=request.baseline.label,
        rule=request.rule.model_dump(mode="json"),
        verdicts=verdicts,
        arms=[],
        plan_digest=None,
        concluded=datetime.now(UTC).date().isoformat(),
    )
    record.write(folder / GATE)
    write_gate_page(record, None, folder)
    return record


def _remove_parts(folder: Path) -> None:
    """What a call that was killed left of the files it was writing."""
    for path in folder.iterdir():
        if is_part(path.name):
            path.unlink()
        elif path.name.startswith(".report-"):
            shutil.rmtree(path)


def refuse_other_files(folder: Path) -> None:
    """Raise a RequestError where a folder without a plan holds what no interrupted gate left there."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"--out {folder}: is a file; a folder would do")
    if folder.exists() and not (folder / PLAN).exists():
        known = {".lock", GATE, CLOCK, TIMING, TIMINGS}
        names = [entry.name for entry in folder.iterdir() if not is_part(entry.name)]
        others = [name for name in names if name not in known and not name.startswith("pilot-")]
        if others:
            raise RequestError(f"--out {folder}: holds other files ({min(others)}); a new folder would do")
