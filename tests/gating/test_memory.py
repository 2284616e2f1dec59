"""The studies of a gate's memory stages: one task for all arms, each with the rate that tuning found for it."""

import pytest

from assay.analysis.gate.rule import parse_rule, read_rule
from assay.gating.asked import GateRequest
from assay.gating.memory import MEMORY_TASKS, memory_study, possible_tasks
from assay.gating.stages import arms_of
from assay.records.gate import MemoryKind, Stage
from assay.study.arm import parse_arm
from assay.study.asked import StudyConfig
from assay.study.resolve import resolve


def request(rule: str = "assay", memory: bool = False) -> GateRequest:
    study = StudyConfig.parse({"arms": ["gpt2", "gpt1"], "seeds": [0], "execution": {"threads": 1}})
    given = parse_rule({"name": "plain", "kind": "intervals"}) if rule == "plain" else read_rule(rule)
    return GateRequest([parse_arm("gpt2")], parse_arm("gpt1"), study, given, sizes=[16_000, 32_000], memory=memory)


@pytest.mark.parametrize("kind", ["recall", "statefulness"])
def test_arms_differ_in_their_rate_alone(kind: MemoryKind) -> None:
    asked = request()
    stage = Stage(name=kind, kind=kind, size=32_000, tokens=20 * MEMORY_TASKS[kind].batch_tokens,
                  arms=["gpt1", "gpt2"], seeds=[0, 1], flops=0, seconds=0)  # fmt: skip
    config = memory_study(stage, arms_of(asked), {"gpt1": 1e-3, "gpt2": 3e-3}, asked.study)
    study = resolve(config, lambda _: None)
    assert [arm.training.learning_rate for arm in study.arms] == [1e-3, 3e-3]
    assert [arm.training.steps for arm in study.arms] == [20, 20]
    assert config.data.task == MEMORY_TASKS[kind].task
    assert config.data.tokenizer == "bytes"
    assert config.seeds == [0, 1]


def test_a_task_that_an_arm_cannot_have_is_left_out_and_said() -> None:
    asked = request()
    both: list[MemoryKind] = ["recall", "statefulness"]
    said: list[str] = []
    assert possible_tasks(both, arms_of(asked), 32_000, asked.study, said.append) == both
    assert said == []
    assert possible_tasks(both, arms_of(asked), 10, asked.study, said.append) == []
    assert [line.split()[0] for line in said] == both


def test_the_rule_or_the_option_asks_for_it() -> None:
    assert request("plain").memory_tasks() == []
    assert request("plain", memory=True).memory_tasks() == ["recall", "statefulness"]
    assert request("assay").memory_tasks() == ["recall", "statefulness"]
    assert request("plain").identity() == request("assay").identity(), "another rule may judge the same runs"
    assert request("plain").identity() != request("plain", memory=True).identity()
