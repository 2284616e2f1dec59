"""What a gate of so many seeds and rungs can resolve, and how many seeds a difference takes; before it runs, and after.

    Plan(seeds, rungs, noise_sd, slope_nats, shared=0.0, tuning_variance=0.0, worthwhile=1.0, step=2.0, ...)
    plan_of(ladder, axis="flops", worthwhile=1.0, ...) -> Plan | None      of a gate that was run, with what it measured
    detectable(plan) -> Detectable(nats, gain)
    seeds_for(plan, nats) -> int | None                  None: not even with MOST seeds
    seeds_to_close(plan, gain) -> SeedRange | None       for a criterion that is OPEN with this estimate of the gain

For normal noise (noncentral t); with the method of `gain` at the candidate's highest rung.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, nctdtrinc, stdtrit

from assay.analysis.intervals.power import SPREAD_LEVEL, SeedRange
from assay.analysis.scaling import curve
from assay.analysis.scaling.gain import Reads
from assay.analysis.scaling.ladder import Axis, Ladder
from assay.analysis.scaling.noise import Noise, error
from assay.analysis.statistics import LEVEL

MOST = 1000
"""Seeds; a search for a number ends there."""
MANY_DEGREES = 1e4


@dataclass(frozen=True)
class Plan:
    """A gate that is to be run."""

    seeds: int
    rungs: int
    """On which both arms are trained."""
    noise_sd: float
    """Standard deviation over seeds of one run, nats."""
    slope_nats: float
    """By how much the baseline's loss falls for e times the cost, around the highest rung; above zero."""
    shared: float = 0.0
    """The share of the noise's variance that the two arms have in common for one seed."""
    tuning_variance: float = 0.0
    """Of one arm, nats squared (`tuning.Chosen.variance`)."""
    worthwhile: float = 1.0
    """The gain the rule asks for."""
    step: float = 2.0
    """Cost of a rung over that of the one below."""
    above: int = 1
    """Rungs of the baseline above the highest of the candidate."""
    level: float = LEVEL
    power: float = 0.8


def plan_of(
    ladder: Ladder, axis: Axis = "flops", worthwhile: float = 1.0, level: float = LEVEL, power: float = 0.8
) -> Plan | None:
    """The plan of a gate that was run, with its noise and slope at its highest rung; None without a cost or a fall."""
    costs = ladder.log_costs(axis)
    if costs is None:
        return None
    arrays = ladder.arrays()
    reads = Reads(arrays, costs, len(costs.candidate) - 1)
    noise = reads.noise
    variance = float(noise.single.mean())
    slope_nats = -float(curve.slope(reads.curve, costs.candidate[None, -1:])[0, 0])
    if slope_nats <= 0 or variance == 0:
        return None
    return Plan(
        seeds=noise.seeds,
        rungs=len(costs.candidate),
        noise_sd=math.sqrt(variance),
        slope_nats=slope_nats,
        shared=1 - float(noise.paired.mean()) / (2 * variance),
        tuning_variance=float(
            (arrays.baseline_tuning[0, len(costs.candidate) - 1] + arrays.candidate_tuning[0, -1]) / 2
        ),
        worthwhile=worthwhile,
        step=math.exp(float(np.diff(costs.baseline).mean())),
        above=len(costs.baseline) - len(costs.candidate),
        level=level,
        power=power,
    )


class Detectable(NamedTuple):
    """What is told from the threshold in a share `power` of gates."""

    nats: float
    """A difference of losses at one cost, from the loss that just reaches the threshold."""
    gain: float
    """The gain that belongs to it; as far below the threshold on a logarithmic scale, a NO-GO is as sure."""


def detectable(plan: Plan) -> Detectable:
    """The smallest difference and gain that this plan resolves with its power."""
    if plan.seeds < 2 or plan.rungs + plan.above < 2 or plan.slope_nats <= 0:
        raise ValueError("a plan needs two seeds, two rungs of the baseline and a loss that falls")
    nats = _errors(plan)
    return Detectable(nats, plan.worthwhile * math.exp(nats / plan.slope_nats))


def seeds_for(plan: Plan, nats: float) -> int | None:
    """The least number of seeds with which a difference of `nats` is detectable."""
    if nats <= 0:
        raise ValueError(f"a difference of {nats}: only what is above zero can be resolved")
    low, high = 1, 2
    while _errors(replace(plan, seeds=high)) > nats:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _errors(replace(plan, seeds=middle)) <= nats else (middle, high)
    return high


def seeds_to_close(plan: Plan, gain: float) -> SeedRange | None:
    """The seeds a new gate needs if the true gain is `gain` and the noise is what it may be.

    `plan` is the gate that was run, with the noise it measured; the range belongs to the ends of that noise's 80%
    interval (chi-squared). None where even MOST seeds do not do, or where the gain is the threshold.
    """
    nats = abs(math.log(gain / plan.worthwhile)) * plan.slope_nats
    if nats == 0:
        return None
    degrees = plan.rungs * (plan.seeds - 1)
    found = []
    for tail in ((1 - SPREAD_LEVEL) / 2, (1 + SPREAD_LEVEL) / 2):
        noise_sd = plan.noise_sd * math.sqrt(degrees / float(chdtri(degrees, tail)))
        found.append(seeds_for(replace(plan, noise_sd=noise_sd), nats))
    low, high = found
    return None if low is None or high is None else SeedRange(low, high)


def _errors(plan: Plan) -> float:
    """The detectable difference in nats."""
    baseline_rungs = plan.rungs + plan.above
    variance = plan.noise_sd**2
    paired, single = np.full(plan.rungs, 2 * variance * (1 - plan.shared)), np.full(baseline_rungs, variance)
    noise = Noise(paired, single, plan.seeds)
    # At the threshold the baseline is read so far from the rung to the next.
    along = math.log(plan.worthwhile) / math.log(plan.step)
    of_baseline, of_candidate = np.zeros(baseline_rungs), np.zeros(plan.rungs)
    of_candidate[-1] = -1.0
    upper = plan.rungs if plan.above and along > 0 else plan.rungs - 1
    of_baseline[upper - 1] += 1 - along if upper == plan.rungs else -along
    of_baseline[upper] += along if upper == plan.rungs else 1 + along
    tuning = plan.tuning_variance * ((of_baseline**2).sum() + 1)
    found = error(noise, of_baseline, of_candidate, tuning)
    known = min(float(found.degrees), MANY_DEGREES)
    critical = float(stdtrit(known, (1 + plan.level) / 2))
    return float(nctdtrinc(known, 1 - plan.power, critical)) * math.sqrt(float(found.variance))
