"""What a gate resolves: before it runs, from the noise and slope that are expected, and after, from those it had."""

import math

import numpy as np

from assay.analysis.gate.rule import GateRule, IntervalRule
from assay.analysis.scaling import curve
from assay.analysis.scaling.ladder import Ladder
from assay.analysis.scaling.noise import pooled
from assay.analysis.scaling.resolvable import Plan


def worthwhile(rule: GateRule) -> float:
    """The gain that the rule asks for; a rule on point estimates asks for none."""
    return rule.primary.worthwhile if isinstance(rule, IntervalRule) else 1.0


def expected_plan(rule: GateRule, seeds: int, rungs: int, noise_nats: float, slope_nats: float, step: float) -> Plan:
    """`step`: the compute of a rung over that of the one below."""
    return Plan(
        seeds=seeds,
        rungs=rungs,
        noise_sd=noise_nats,
        slope_nats=slope_nats,
        worthwhile=worthwhile(rule),
        step=step,
        level=getattr(rule, "level", 0.95),
    )


def measured_plan(ladder: Ladder, rule: GateRule) -> Plan | None:
    """The gate that was run, with its own noise and slope in compute; None where the baseline's loss does not fall."""
    costs = ladder.log_costs("flops")
    if costs is None:
        return None
    arrays = ladder.arrays()
    noise = pooled(arrays.baseline, arrays.candidate)
    variances = noise.single[:, None] / noise.seeds + arrays.baseline_tuning
    through = curve.through(costs.baseline, arrays.baseline.mean(-1), variances)
    slope = -float(curve.slope(through, costs.candidate[None, -1:])[0, 0])
    single, paired = float(noise.single[0]), float(noise.paired[0])
    if not slope > 0 or single <= 0:
        return None
    return Plan(
        seeds=len(ladder.seeds),
        rungs=len(ladder.judged),
        noise_sd=math.sqrt(single),
        slope_nats=slope,
        shared=min(0.99, max(0.0, 1 - paired / (2 * single))),
        tuning_variance=float(arrays.candidate_tuning[0, -1]),
        worthwhile=worthwhile(rule),
        step=float(np.exp(np.diff(costs.baseline).mean())),
        above=len(ladder.rungs) - len(ladder.judged),
        level=getattr(rule, "level", 0.95),
    )
