"""Document 002's matrix runs as a script, with every number of the group in its table."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.study.asked import StudyConfig
from study.made_up import write_corpus

ROOT = Path(__file__).parents[2]


def test_tokens_and_seeds_take_the_place_of_the_scales_own() -> None:
    spec = importlib.util.spec_from_file_location("characterization", ROOT / "experiments/characterization/run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    own, other = run.settings("document", "stdlib"), run.settings("document", "stdlib", 8_000_000, 50_000, [3])
    assert (own["size"], own["seeds"], own["training"]["tokens"]) == (4_000_000, [0, 1, 2, 3, 4], 12_000_000)
    assert (other["size"], other["seeds"], other["training"]["tokens"]) == (8_000_000, [3], 50_000)
    assert other["training"] == {**own["training"], "tokens": 50_000}
    assert StudyConfig.parse({"arms": run.arms(run.INITIALISATIONS), **other}).seeds == [3]


@pytest.mark.slow
def test_characterization_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    command = [sys.executable, str(ROOT / "experiments/characterization/run.py"), "--scale", "smoke", "--json"]
    done = subprocess.run(
        [*command, "--init", "blinkdl", "--corpus", f"text:{corpus}", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["arms"].keys() == {f"{name}-blinkdl" for name in ("gpt1", "gpt2", "rwkv6", "mamba2")}
    missing = {name: {row for row, cell in column.items() if cell == "-"} for name, column in found["arms"].items()}
    assert "half-life of the state, tokens" in missing["gpt1-blinkdl"]
    assert "attention looks back, tokens" in missing["mamba2-blinkdl"]
    for of in missing.values():
        assert not of & {
            "test perplexity",
            "nats without any mixer",
            "bits read of the next token",
            "model",
            "raw layer",
            "gradients",
            "loss spikes",
            "S0 to G4",
        }
    told = found["characters"]["blinkdl"]
    assert all(3 <= len(lines) <= 8 for lines in told["words"].values())
    assert [len(of["answers"]) for of in told["questions"]] == [4, 4, 4, 4]
    assert len(told["fusion"]["pairs"]) == 6
    assert {claim["holds"] for claim in told["fusion"]["claims"]} >= {"cannot be supported"}
    assert found["why"]
