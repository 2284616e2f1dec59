"""The known orderings run as a script; at the smoke scale nothing needs to be resolved, but everything is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.made_up import write_corpus

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_known_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    command = [sys.executable, str(ROOT / "experiments/known/run.py"), "--scale", "smoke", "--json"]
    done = subprocess.run(
        [*command, "--corpus", f"text:{corpus}", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    results = json.loads(done.stdout.splitlines()[-1])
    assert results.keys() == {"recipe", "gate", "hybrid", "recall"}
    for result in results.values():
        assert result["finding"] in ("agrees", "contradicts", "not resolved")
        low, high = result["interval"]
        assert low <= result["difference"] <= high
        assert len(result["nats"]) == 2
        assert Path(result["report"]).is_file()
    assert {len(shares) for shares in results["recall"]["accuracy"].values()} == {2}


def test_an_unknown_claim_is_refused() -> None:
    command = [sys.executable, str(ROOT / "experiments/known/run.py"), "--only", "recipes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "known: --only recipes: one of recipe, gate, hybrid, recall would do\n"
