"""What a rule asks of the judged runs beyond the usual: memory tasks to train on, and measurements to make."""

from assay.analysis.gate.rule import Condition, GateRule, IntervalRule
from assay.records.gate import MemoryKind

TASKS: dict[str, MemoryKind] = {
    "recall": "recall",
    "statefulness": "statefulness",
    "statefulness_ratio": "statefulness",
    "statefulness_difference": "statefulness",
}
"""Quantity or metric -> the stage of the gate that it is read from."""
MEASUREMENTS = {"long_context": "beyond", "long_context_nats": "beyond"}
"""Column or metric -> the measurement of the runs at the largest size that it is read from."""


def asked_by(rule: GateRule) -> set[str]:
    """Every column, quantity and metric that the rule names."""
    if isinstance(rule, IntervalRule):
        return {name for of in rule.secondary for name in (of.column, of.quantity) if name is not None}
    conditions: list[Condition] = [*rule.stop, *rule.fail_triggers, *rule.pass_requires]
    conditions += [condition for clause in rule.decide for condition in clause.when]
    named = [name for of in conditions for name in (of.metric, *of.count) if name is not None]
    return {*named, *(grade.metric for grade in rule.grades)}


def memory_tasks(rule: GateRule, always: bool = False) -> list[MemoryKind]:
    """The memory stages that the rule needs, all of them with `always`."""
    asked = set(TASKS) if always else asked_by(rule)
    return sorted({kind for name, kind in TASKS.items() if name in asked})


def further_measurements(rule: GateRule, always: bool = False) -> list[str]:
    """The measurements that the rule needs of the runs at the largest size, all of them with `always`."""
    asked = set(MEASUREMENTS) if always else asked_by(rule)
    return sorted({name for column, name in MEASUREMENTS.items() if column in asked})
