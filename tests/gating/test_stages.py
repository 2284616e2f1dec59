"""What the judged runs of a gate measure beside what is usual, and what the runs that tune do not."""

from assay.analysis.gate.rule import read_rule
from assay.gating.asked import GateRequest
from assay.gating.stages import study_of
from assay.records.gate import Stage, StageKind
from assay.study.asked import StudyConfig

TASK = {"data": {"task": "copying"}}


def measured(kind: StageKind, arms: list[str], **settings: object) -> list[str]:
    """The names of what a stage with these arms measures."""
    study = StudyConfig.parse({"arms": ["gpt2", "gpt1"], "seeds": [0], **settings})
    request = GateRequest(study.arms[:1], study.arms[1], study, read_rule("assay"), sizes=[16_000, 32_000])
    stage = Stage(name="x", kind=kind, size=16_000, tokens=4_096, arms=arms, seeds=[0], flops=1.0, seconds=1.0)
    return study_of(request, stage, {arm: [1e-3] for arm in arms}, study, ["inference_quick"]).measurements


def test_judged_runs_read_other_texts_and_those_that_tune_do_not() -> None:
    both = measured("judged", ["gpt1", "gpt2"])
    assert {"likelihood", "recall", "speed", "inference_quick", "texts"} <= set(both)
    assert both.count("recall") == 1
    assert measured("judged", ["gpt1"]) == ["likelihood", "recall", "texts"], "the baseline's further size alone"
    assert measured("tuning", ["gpt1", "gpt2"]) == ["likelihood"]


def test_a_task_has_no_other_texts() -> None:
    assert "texts" not in measured("judged", ["gpt1", "gpt2"], **TASK)
