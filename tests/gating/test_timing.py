"""What a gate's stopwatch makes of short runs: an arm's own timing for each task, read between the sizes it knows."""

from pathlib import Path

import pytest

from assay.analysis.gate.rule import read_rule
from assay.gating.asked import GateRequest
from assay.gating.timing import Times
from assay.records.gate import MemoryKind, Timing
from assay.study.arm import parse_arm
from assay.study.asked import StudyConfig
from assay.study.compare import Silent


def timing(size: int, per_token: float, start: float, task: MemoryKind | None = None) -> Timing:
    return Timing(
        arm="gpt1", size=size, task=task, seconds_per_token=per_token, start_seconds=start, peak_memory_bytes=None
    )


@pytest.fixture
def times(tmp_path: Path) -> Times:
    study = StudyConfig.parse({"arms": ["gpt2", "gpt1"], "seeds": [0]})
    request = GateRequest([parse_arm("gpt2")], parse_arm("gpt1"), study, read_rule("assay"), sizes=[16_000, 32_000])
    found = Times(request, study, Silent(), 1, tmp_path)
    found.flops = {("gpt1", None, 32_000): 8, ("gpt1", "recall", 32_000): 7}
    return found


def test_a_task_costs_what_its_own_timing_says_at_every_size(times: Times) -> None:
    on_text, on_task = timing(32_000, 1e-3, 2.0), timing(32_000, 1e-4, 5.0, "recall")
    times.restore([on_text])
    assert times.cost("gpt1", 32_000, 1_000, "recall").seconds == pytest.approx(3.0, abs=2e-3), "till it is timed"
    times.restore([on_text, on_task])
    times.flops["gpt1", "recall", 40_000] = 9
    found = {size: times.cost("gpt1", size, 10_000, "recall") for size in (32_000, 40_000)}
    assert [cost.seconds for cost in found.values()] == pytest.approx([6.0, 6.0], abs=2e-3)
    assert [cost.flops for cost in found.values()] == [7e4, 9e4]
    assert times.cost("gpt1", 32_000, 10_000).seconds == pytest.approx(12.0, abs=2e-3)
    assert times.of([64_000]) == [on_task]


def test_the_text_is_read_on_a_log_log_line_between_two_sizes(times: Times) -> None:
    times.restore([timing(16_000, 1e-4, 1.0), timing(64_000, 4e-4, 1.0)])
    assert times.cost("gpt1", 32_000, 10_000).seconds == pytest.approx(1.0 + 2.0, rel=1e-3)
