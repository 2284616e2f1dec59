"""The plan of a gate, made before its first judged step: sizes, stages, what they cost and what they can resolve."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from assay.analysis.gate.planned import expected_plan
from assay.analysis.gate.tuned import runs_in, validation_loss
from assay.analysis.scaling.resolvable import detectable
from assay.analysis.wording import join_names, short
from assay.errors import RequestError
from assay.gating.asked import CONTROL, PLACEBO, GateRequest
from assay.gating.branches import trainings_of, why_none
from assay.gating.clock import note_seconds
from assay.gating.layout import PILOT_SEED, TUNING_SEED, Shape, lay_out, top_of, total
from assay.gating.memory import possible_tasks
from assay.gating.sizes import choose_sizes, measure_ladder, refuse_budget, seeds_for
from assay.gating.stages import arms_of, carry_out_runs, study_of
from assay.gating.timing import TIMINGS, Times
from assay.model.plan import available_cores, resolve_plan
from assay.records.gate import GatePlan, Noise, Stage, Timings
from assay.study.asked import StudyConfig
from assay.study.compare import Listener
from assay.study.machine import SMALL_PARAMETERS, compiles_at_once
from assay.study.measure.given import OTHER_TEXT_TOKENS
from assay.training.environment import environment

FULL_PROTOCOL_SECONDS = 2 * 3600.0
"""From so long a gate on the whole inference protocol is worth its minutes."""
USUAL_SLOPE_NATS = 0.15
"""By how much the loss of a language model of this kind falls for e times the compute, where no pilot told it."""


@dataclass(frozen=True)
class Prepared:
    """What a gate needs before it is planned: its protocol with the execution resolved, its shape, its stopwatch."""

    base: StudyConfig
    shape: Shape
    times: Times
    workers: int | None


def prepare(
    request: GateRequest, folder: Path, listener: Listener, workers: int | None, audit_seconds: float
) -> Prepared:
    """Fix what all stages share: precision, threads, runs at a time. `audit_seconds`: of one arm."""
    base = request.study
    plan = resolve_plan(base.execution, listener.message)
    largest = max(request.sizes, default=0)
    threads = base.execution.threads
    if threads is None:
        threads = 1 if plan.device == "cpu" and largest <= SMALL_PARAMETERS else available_cores()
    at_a_time = workers or (max(1, available_cores() // threads) if plan.device == "cpu" else 1)
    execution = base.execution.model_copy(update={"threads": threads})
    base = base.model_copy(update={"execution": execution})
    seeds = request.seeds or seeds_for(request.budget)
    if seeds >= TUNING_SEED:
        raise RequestError(f"--seeds {seeds}: tuning has the seeds from {TUNING_SEED:,} on; fewer would do")
    shape = Shape(
        baseline=request.baseline.label,
        candidates=[arm.label for arm in request.candidates],
        placebo=request.placebo,
        seeds=seeds,
        rates=request.rates,
        tokens_per_parameter=request.tokens_per_parameter,
        batch_tokens=base.training.batch_tokens,
        workers=at_a_time,
        beside_tokens=0 if base.data.task is not None else OTHER_TEXT_TOKENS * len(base.evaluation.texts),
        memory=request.memory_tasks(),
        audit_seconds=audit_seconds,
        branching=trainings_of(request),
    )
    return Prepared(base, shape, Times(request, base, listener, at_a_time, folder), at_a_time)


def make_plan(
    request: GateRequest, folder: Path, listener: Listener, workers: int | None, audit_seconds: float
) -> GatePlan:
    """Time the arms, choose sizes, run the pilot, and say what the gate will resolve; nothing is judged yet."""
    ready = prepare(request, folder, listener, workers, audit_seconds)
    shape, times = ready.shape, ready.times
    sizes = _timed_sizes(request, ready, folder)
    named = {label: arm for label, arm in arms_of(request).items() if label in (shape.baseline, *shape.candidates)}
    shape = replace(shape, memory=possible_tasks(shape.memory, named, sizes[0], ready.base, listener.notice))
    stages = lay_out(shape, sizes, times.cost)
    if request.study.training.schedule == "wsd" and not any(stage.budgets for stage in stages):
        why = why_none(request) or "their warm-up and decay leave no steps between them"
        listener.notice(f"training.schedule wsd: no smaller budgets branch from the judged runs, as {why}")
    base = _with_compilation(ready.base, stages, listener)
    pilots = [stage for stage in stages if stage.kind == "pilot"]
    for stage in pilots:
        listener.message(f"{stage.name}: the baseline's spread over seeds, before the plan is written")
        rates = {request.baseline.label: [base.training.learning_rate]}
        began = time.monotonic()
        carry_out_runs(study_of(request, stage, rates, base), folder / stage.name, listener, ready.workers)
        note_seconds(folder, stage.name, time.monotonic() - began)
    noise, slope = pilot_noise(folder, pilots)
    top = [stage for stage in stages if stage.kind == "judged"]
    step = top[-1].flops / len(top[-1].arms) / max(1.0, top[-2].flops / len(top[-2].arms))
    expected = expected_plan(
        request.rule, len(shape.candidates), shape.seeds, len(sizes), noise.nats, slope or USUAL_SLOPE_NATS, step
    )
    found = detectable(expected)
    cost = total(stages)
    peaks = [timing.peak_memory_bytes for timing in times.of([*sizes, top_of(sizes)])]
    known = [peak for peak in peaks if peak is not None]
    return GatePlan(
        hypothesis=_hypothesis(request, sizes),
        baseline=shape.baseline,
        candidates=list(shape.candidates),
        placebo=[PLACEBO] if request.placebo else [],
        control=CONTROL if request.placebo else None,
        rule=request.rule.model_dump(mode="json"),
        asked=request.identity(),
        config=base.model_dump(mode="json", exclude={"plan", "added"}),
        sizes=sizes,
        top_size=top_of(sizes),
        tokens_per_parameter=request.tokens_per_parameter,
        rates=list(request.rates),
        stages=stages,
        timings=times.of([*sizes, top_of(sizes)]),
        noise=noise,
        slope_nats=slope,
        detectable_nats=found.nats,
        detectable_gain=found.gain,
        seconds=cost.seconds,
        flops=cost.flops,
        peak_memory_bytes=max(known) * shape.workers if known else None,
        workers=shape.workers,
        inference="inference" if cost.seconds > FULL_PROTOCOL_SECONDS else "inference_quick",
        further=request.further_measurements(),
        machine=environment(resolve_plan(base.execution, lambda _: None), ""),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _timed_sizes(request: GateRequest, ready: Prepared, folder: Path) -> list[int]:
    """Time the arms and choose the sizes, or take over what an interrupted call found."""
    shape, times = ready.shape, ready.times
    path, asked = folder / TIMINGS, request.identity()
    if path.exists():
        known = Timings.read(path)
        if known.asked != asked:
            raise RequestError(f"--out {folder}: holds the beginning of another gate; a new folder would do")
        times.restore(known.timings)
        return known.sizes
    if request.sizes:
        sizes = sorted(request.sizes)
        measure_ladder(shape, sizes, times)
        if request.budget is not None:
            refuse_budget(total(lay_out(shape, sizes, times.cost)), request.budget, sizes)
    else:
        sizes = choose_sizes(request, shape, times, ready.base)
    Timings(asked=asked, sizes=sizes, timings=times.all()).write(path)
    return sizes


def pilot_noise(folder: Path, pilots: Sequence[Stage]) -> tuple[Noise, float | None]:
    """The spread of the baseline over seeds, on validation, and by how much its loss falls for e times the compute."""
    losses: list[list[float]] = []
    flops: list[float] = []
    for stage in pilots:
        runs = runs_in(folder / stage.name)
        found = [loss for loss in map(validation_loss, runs) if loss is not None]
        losses.append(found)
        flops.append(stage.flops / stage.runs)
    squares = sum((loss - statistics.fmean(of)) ** 2 for of in losses if len(of) > 1 for loss in of)
    degrees = sum(max(0, len(of) - 1) for of in losses)
    if degrees == 0:
        raise RequestError(
            "--lr: the baseline diverged in the pilot at its usual rate; --set training.learning_rate=1e-3 would do"
        )
    slope = None
    if all(losses) and len(losses) == 2:
        fall = statistics.fmean(losses[0]) - statistics.fmean(losses[1])
        slope = fall / math.log(flops[1] / flops[0])
    sizes = join_names([short(stage.size) for stage in pilots])
    source = f"{sum(map(len, losses))} runs of the baseline at {sizes}, seeds from {PILOT_SEED} on, validation split"
    nats = math.sqrt(squares / degrees)
    return Noise(nats=nats, degrees=degrees, source=source), slope if slope and slope > 0 else None


def _with_compilation(base: StudyConfig, stages: Sequence[Stage], listener: Listener) -> StudyConfig:
    """One decision for all stages: whether the shortest judged run repays a compiler."""
    execution = base.execution
    if execution.compile != "auto":
        return base
    least = min(stage.flops / stage.runs for stage in stages if stage.kind == "judged")
    device = resolve_plan(execution, lambda _: None).device
    on = compiles_at_once(execution, device, least, listener.message)
    return base.model_copy(update={"execution": execution.model_copy(update={"compile": on})})


def _hypothesis(request: GateRequest, sizes: Sequence[int]) -> str:
    names = join_names([arm.label for arm in request.candidates], "or")
    per = getattr(getattr(request.rule, "primary", None), "per", "flops")
    return (
        f"{names} reaches the loss of {request.baseline.label} at {short(sizes[-1])} for less {per}; judged by the "
        f"rule {request.rule.name}"
    )
