"""What the plan of a gate predicted and what came: time, memory, noise, slope."""

import json
from pathlib import Path

from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.planned import measured_plan
from assay.analysis.gate.rule import parse_rule
from assay.records.gate import GatePlan

CLOCK = "seconds.json"
"""Stage -> how many seconds it took, in the folder of a gate."""


def outcome(folder: Path, plan: GatePlan, evidence: Evidence) -> list[str]:
    """One sentence each."""
    return [*_time(folder, plan), *_memory(plan, evidence), *_noise(plan, evidence)]


def _time(folder: Path, plan: GatePlan) -> list[str]:
    path = folder / CLOCK
    took = json.loads(path.read_bytes()) if path.exists() else {}
    timed = [stage for stage in plan.stages if stage.name in took]
    if not timed:
        return []
    predicted, came = sum(stage.seconds for stage in timed), sum(took[stage.name] for stage in timed)
    less = "" if len(timed) == len(plan.stages) else f" ({len(timed)} of {len(plan.stages)} stages were timed)"
    return [f"Time: {came / 60:.1f} min, predicted {predicted / 60:.1f} min, {came / predicted - 1:+.0%}{less}."]


def _memory(plan: GatePlan, evidence: Evidence) -> list[str]:
    peaks = [arm.peak_memory_bytes for arm in evidence.arms() if arm.peak_memory_bytes is not None]
    if not peaks or plan.peak_memory_bytes is None:
        return []
    came = max(peaks) * plan.workers
    return [
        f"Memory of {plan.workers} runs at a time: at most {came / 1e9:.2f} GB, predicted "
        f"{plan.peak_memory_bytes / 1e9:.2f} GB."
    ]


def _noise(plan: GatePlan, evidence: Evidence) -> list[str]:
    rule = parse_rule(plan.rule)
    for label in evidence.candidates:
        try:
            came = measured_plan(evidence.ladder(label), rule)
        except (ValueError, KeyError):
            continue
        if came is None:
            continue
        slope = "not known" if plan.slope_nats is None else f"{plan.slope_nats:.3f}"
        return [
            f"Noise of one run over seeds: {came.noise_sd:.4f} nats per token, predicted {plan.noise.nats:.4f}.",
            f"Fall of {plan.baseline}'s loss for e times the compute: {came.slope_nats:.3f} nats, predicted {slope}.",
        ]
    return []
