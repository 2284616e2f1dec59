"""The reverse test: assay's GPT-2 and transformers' in a plain loop have one loss curve; another recipe has another."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from assay.study.resolve import resolve
from study.made_up import write_corpus

SCRIPT = Path(__file__).parents[2] / "experiments/reverse_test/run.py"


@pytest.fixture(scope="module")
def reverse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reverse_test_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_curves_are_one_and_a_wrong_recipe_is_seen(reverse: ModuleType, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=30)
    scale = reverse.SCALES["smoke"]._replace(steps=8)
    config = reverse.settings(scale, f"text:{corpus}", "tied")
    study = resolve(config, lambda _: None)
    mine = reverse.ours(config, tmp_path / "run")
    same = reverse.theirs(study, study.arms[0])
    assert len(mine.steps) == 8
    assert reverse.largest_difference(mine.steps, same.steps) < 1e-5
    assert same.held_out == pytest.approx(mine.held_out, abs=1e-5)
    recipe = study.arms[0].training.model_copy(update={"warmup_share": 0.0})
    other = reverse.theirs(study, replace(study.arms[0], training=recipe))
    assert reverse.largest_difference(mine.steps, other.steps) > reverse.TOLERANCE_NATS


def test_the_rows_of_the_matrix(reverse: ModuleType) -> None:
    assert [reverse.reading(ratio) for ratio in (1.0, 1.049, 0.96, 1.07, 1.2, 0.9)] == [0, 0, 0, 2, 1, 3]


def test_a_difference_within_the_documents_five_percent_is_a_failure_all_the_same(reverse: ModuleType) -> None:
    assert reverse.conclusion(1e-6, 0).startswith("PASS")
    assert "would let it pass" in reverse.conclusion(0.02, 0)
    assert reverse.conclusion(0.5, 3).startswith("FAIL")


@pytest.mark.slow
@pytest.mark.parametrize("heads", ["tied", "untied"])
def test_as_a_script_on_the_standard_library(heads: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--heads", heads, "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["largest_difference_nats"] <= 1e-3
    assert found["reading"] == "the framework is correct"
    assert found["ours"]["steps"][-1] < found["ours"]["steps"][0] - 1
