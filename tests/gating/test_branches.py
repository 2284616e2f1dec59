"""Under `wsd` smaller budgets branch from a gate's judged runs: planned, counted, and equal in what they share."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from assay.analysis.gate.rule import read_rule
from assay.api import gate
from assay.errors import RequestError
from assay.gating.asked import GateRequest
from assay.gating.branches import own_tokens, smaller_budgets, trainings_of, why_none
from assay.gating.layout import lay_out
from assay.gating.stages import study_of
from assay.records import MeasuredRun
from assay.records.gate import GatePlan
from assay.study.asked import StudyConfig
from assay.training.config import TrainingConfig
from gating.test_layout import SIZES, cost, shape
from study.made_up import write_corpus

BATCH = 1_000


def request(*arms: str, **training: Any) -> GateRequest:
    values = {"schedule": "wsd", "batch_tokens": BATCH, "context": 100, **training}
    study = StudyConfig.parse({"arms": list(arms or ("gpt2", "gpt1")), "seeds": [0], "training": values})
    return GateRequest(study.arms[:1], study.arms[1], study, read_rule("assay"), sizes=SIZES)


def wsd(**changes: Any) -> TrainingConfig:
    return TrainingConfig.parse({"schedule": "wsd", "batch_tokens": BATCH, "context": 100, **changes})


def test_budgets_are_a_quarter_and_a_half_in_whole_batches() -> None:
    assert smaller_budgets([wsd()], 101 * BATCH) == [25 * BATCH, 50 * BATCH]
    assert smaller_budgets([wsd(warmup_share=0.25)], 100 * BATCH) == [50 * BATCH], "the quarter would decay in warm-up"
    assert smaller_budgets([wsd(), wsd(warmup_share=0.5)], 100 * BATCH) == [], "for one arm nothing is left"
    assert smaller_budgets([wsd()], BATCH) == []
    assert smaller_budgets([wsd()], 6 * BATCH) == [3 * BATCH], "a fifth of two steps is no step of decay"
    assert own_tokens(wsd(decay_share=0.2), 50 * BATCH) == 10 * BATCH


def test_stages_of_branches_follow_the_judged_ones_and_cost_their_own_steps() -> None:
    asked = request("mine=gpt2", "gpt1")
    plain, branching = shape(), dataclasses.replace(shape(), branching=trainings_of(asked))
    stages = lay_out(branching, SIZES, cost)
    assert [stage for stage in stages if stage.kind == "branches"] == [
        stages[at + 1] for at, stage in enumerate(stages) if stage.kind == "judged"
    ]
    assert [stage.tokens for stage in stages if stage.kind != "branches"] == [
        stage.tokens for stage in lay_out(plain, SIZES, cost)
    ]
    of = next(stage for stage in stages if stage.kind == "branches")
    assert (of.name, of.budgets, of.runs) == ("branches-0.1M", [500_000, 1_000_000], 2 * 2 * 3)
    assert of.flops == 3 * 2 * 6.0 * 100_000 * 0.2 * 1_500_000


def test_without_wsd_there_are_none_and_what_hinders_them_is_said() -> None:
    assert trainings_of(request(schedule="cosine")) == {}
    assert why_none(request()) is None
    assert why_none(request("mine=gpt2:schedule=cosine", "gpt1")) == "mine has the schedule cosine"
    assert why_none(request(weights="best")) == "training.weights: best does not go with it"
    assert trainings_of(request(weights="best")) == {}
    with pytest.raises(RequestError, match="leave it out"):
        request(branches=[50_000], warmup_tokens=1_000)


def test_every_arm_keeps_its_warm_up() -> None:
    asked = request("mine=gpt2:warmup_share=0.02", "gpt1")
    stages = lay_out(dataclasses.replace(shape(), branching=trainings_of(asked)), SIZES, cost)
    judged = next(stage for stage in stages if stage.kind == "judged")
    config = study_of(asked, judged, {"gpt1": [1e-3], "mine": [1e-3]}, asked.study)
    assert StudyConfig.parse(config.model_dump()).training.branches == judged.budgets
    alone = [TrainingConfig.parse({**config.training.model_dump(), **arm.training}) for arm in config.arms]
    assert [training.warmup_steps for training in alone] == [200, 40]
    assert [training.branch(500_000).warmup_steps for training in alone] == [200, 40]


@pytest.mark.slow
def test_a_gate_under_wsd_has_losses_at_several_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    settings: dict[str, Any] = {
        "rule": "groundthink-v7",
        "sizes": [16_000, 32_000],
        "seeds": 2,
        "rates": [1e-3, 3e-3, 1e-2],
        "tokens_per_parameter": 0.4,
        "workers": 1,
        "data": {"corpus": f"text:{corpus}", "tokenizer": "bytes"},
        "training": {"schedule": "wsd", "batch_tokens": 256, "context": 32, "validation_tokens": 512},
        "evaluation": {"test_tokens": 512, "texts": ["manual"]},
        "execution": {"threads": 1},
    }
    record = gate(["gpt2"], "gpt1", tmp_path / "gate", **settings)
    plan = GatePlan.read(tmp_path / "gate" / "plan.json")
    took = json.loads((tmp_path / "gate" / "seconds.json").read_bytes())
    assert {stage.name for stage in plan.stages} == took.keys()
    assert [[of.tokens for of in arm.budgets] for arm in record.arms if arm.size == 32_000] == [[3_072, 6_400]] * 2
    assert all(of.losses.keys() == {0, 1} for arm in record.arms for of in arm.budgets)
    for stage in plan.stages:
        if stage.kind == "branches":
            for path in (tmp_path / "gate" / stage.name).glob("tokens-*/runs/*/record.json"):
                branch = MeasuredRun.read(path.parent).record
                (long,) = (tmp_path / "gate").glob(f"judged-{stage.name[9:]}/runs/{branch.label}-seed{branch.seed}-*")
                whole, at = MeasuredRun.read(long).record, branch.branched_at
                assert at is not None
                assert branch.training_curve[:at] == whole.training_curve[:at]
                assert branch.spec["training"]["weight_decay"] == whole.spec["training"]["weight_decay"]
    page = (tmp_path / "gate" / "gate.html").read_text(encoding="utf-8")
    assert "Loss at several budgets" in page
    assert (tmp_path / "gate" / "report" / "budgets.csv").exists()
    monkeypatch.setattr("assay.study.sanity.check.assay_version", lambda: "a later one")
    again = gate(["gpt2"], "gpt1", tmp_path / "gate", **settings)
    assert (again.verdicts, again.arms) == (record.verdicts, record.arms), "a finished one is shown by a later assay"
