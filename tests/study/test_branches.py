"""Several budgets from one study: each equals, bit for bit, the study that was trained to that budget alone."""

from pathlib import Path
from typing import Any

import pytest

from assay.errors import RequestError
from assay.records import MeasuredRun, StudyRecord
from assay.study.asked import StudyConfig
from assay.study.branches import branch_study
from assay.study.compare import Silent, compare
from assay.study.folder import open_folder
from assay.study.jobs import run_folder
from assay.study.resolve import resolve
from assay.study.run import carry_out
from study.made_up import Make

WSD = {"schedule": "wsd", "warmup_tokens": 512, "decay_share": 0.25, "learning_rate": 1e-2}
"""Twelve steps, the last three of them falling; of eight the last two."""
BUDGET = 8 * 256


def config_of(make: Make, *arms: str, **training: Any) -> StudyConfig:
    return make(arms or ("gpt1",), training={**WSD, **training}, measurements=["likelihood"])


def trained(config: StudyConfig, folder: Path) -> dict[str, tuple[MeasuredRun, list[int]]]:
    """The runs of a study, without its audits and its page: name of the folder -> run, and the steps that it made."""
    study = resolve(config, lambda _: None)
    open_folder(folder, study.config.model_copy(update={"plan": study.plan, "corpus_digest": study.dataset.digest}))
    found = {}
    for arm in study.arms:
        steps: list[int] = []
        place = run_folder(study, arm, 0, folder)
        run = carry_out(study, arm, 0, place, [lambda event, steps=steps: steps.append(event.step)])  # type: ignore[misc]
        found[place.name] = run, steps
    return found


def weights(folder: Path, name: str) -> bytes:
    return (folder / "runs" / name / "checkpoint" / "model.safetensors").read_bytes()


def test_a_branch_equals_the_run_of_its_budget_alone(make: Make, tmp_path: Path) -> None:
    whole, alone = tmp_path / "whole", tmp_path / "alone"
    said: list[str] = []
    trained(config_of(make, "gpt1", "rwkv6", branches=[BUDGET]), whole)
    config, inside = branch_study(whole, BUDGET, said.append)
    ones, others = trained(config, inside), trained(config_of(make, "gpt1", "rwkv6", tokens=BUDGET), alone)
    assert ones.keys() == others.keys(), "the same specs"
    for name, (one, steps) in ones.items():
        other, all_steps = others[name]
        assert (steps, all_steps) == ([7, 8], list(range(1, 9)))
        assert weights(inside, name) == weights(alone, name)
        assert one.record.data_chain == other.record.data_chain
        assert one.record.training_curve == other.record.training_curve
        assert one.results["likelihood"].values == other.results["likelihood"].values
        assert (one.record.branched_at, one.record.interruptions) == (6, 0)
        assert other.record.branched_at is None
    assert said == ["tokens-2048: 2 runs, 75% of the steps taken over from whole"]
    assert branch_study(whole, BUDGET, said.append)[1] == inside
    assert len(said) == 1, "what was begun is left alone"


@pytest.mark.slow
def test_a_study_with_branches_has_a_study_inside_for_each_and_grows(make: Make, tmp_path: Path) -> None:
    config = config_of(make, "gpt1", "rwkv6", branches=[BUDGET])
    compare(config, tmp_path / "b", Silent(), 1)
    compare(config.model_copy(update={"seeds": [0, 1]}), tmp_path / "b", Silent(), 1)
    record = StudyRecord.read(tmp_path / "b" / "tokens-2048" / "study.json")
    assert [arm.seeds for arm in record.arms] == [[0, 1], [0, 1]]
    assert (tmp_path / "b" / "tokens-2048" / "report.html").exists()
    runs = [MeasuredRun.read(path.parent) for path in tmp_path.glob("b/tokens-2048/runs/*/record.json")]
    assert [run.record.branched_at for run in runs] == [6] * 4


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"schedule": "cosine"}, "wsd would do"),
        ({"warmup_tokens": None, "warmup_share": 0.5}, "training.warmup_tokens=1024 makes them one"),
        ({"branches": [12 * 256]}, "budgets below --tokens 3072"),
        ({"decay_share": 1.0}, "a smaller decay_share"),
        ({"decay_share": 0.05}, "no step of decay; a larger decay_share"),
        ({"weights": "best"}, "last would do"),
        ({"keep": [3]}, "training.keep"),
    ],
)
def test_what_would_not_begin_with_the_same_steps_is_refused(make: Make, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(RequestError, match=part):
        config_of(make, **{"branches": [BUDGET], **changes})


def test_the_course_of_training_and_tasks_are_refused_before_a_step(make: Make, tmp_path: Path) -> None:
    training = {**WSD, "branches": [BUDGET]}
    with pytest.raises(RequestError, match="course of training"):
        compare(make(training=training, measurements=["dynamics"]), tmp_path / "a")
    task = {"arms": ["gpt1"], "data": {"task": "copying"}, "training": {**training, "tokens": 2**20}}
    with pytest.raises(RequestError, match="--task copying"):
        compare(StudyConfig.parse(task), tmp_path / "b")
    assert not list(tmp_path.iterdir())
