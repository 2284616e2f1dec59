"""What a gate resolves: before it runs, from the noise and slope that are expected, and after, from those it had."""

from assay.analysis.gate.rule import GateRule, IntervalRule
from assay.analysis.scaling.budget import level_of_each
from assay.analysis.scaling.ladder import Ladder
from assay.analysis.scaling.resolvable import Plan, plan_of
from assay.analysis.scaling.tuning import expected_variance
from assay.analysis.statistics import LEVEL


def worthwhile(rule: GateRule) -> float:
    """The gain that the rule asks for; a rule on point estimates asks for none."""
    return rule.primary.worthwhile if isinstance(rule, IntervalRule) else 1.0


def level_of_candidates(rule: GateRule, candidates: int) -> float:
    """Of each candidate's interval, so that all hold together at the level of the rule: they share one error budget."""
    return level_of_each(rule.level if isinstance(rule, IntervalRule) else LEVEL, candidates)


def expected_plan(
    rule: GateRule, candidates: int, seeds: int, rungs: int, noise_nats: float, slope_nats: float, step: float
) -> Plan:
    """`step`: the compute of a rung over that of the one below."""
    return Plan(
        seeds=seeds,
        rungs=rungs,
        noise_sd=noise_nats,
        slope_nats=slope_nats,
        tuning_variance=expected_variance(noise_nats),
        worthwhile=worthwhile(rule),
        step=step,
        level=level_of_candidates(rule, candidates),
    )


def measured_plan(ladder: Ladder, rule: GateRule, level: float = LEVEL) -> Plan | None:
    """The gate that was run, with its own noise and slope in compute; None where the baseline's loss does not fall."""
    return plan_of(ladder, "flops", worthwhile(rule), level)
