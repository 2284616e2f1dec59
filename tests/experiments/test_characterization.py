"""Document 002's matrix runs as a script, with every number of the group in its table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.made_up import write_corpus

ROOT = Path(__file__).parents[2]


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
