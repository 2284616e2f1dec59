"""Document 001's ladder as a script: at the smoke scale true sizes, both rules' verdicts and a page come out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.made_up import write_corpus

SCRIPT = Path(__file__).parents[2] / "experiments/v7_scaling/run.py"


@pytest.mark.slow
def test_v7_scaling_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    out = tmp_path / "gate"
    options = ["--scale", "smoke", "--json", "--corpus", f"text:{corpus}", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [round(count / 1e6, 1) for count in found["sizes"].values()] == [6.6, 14.4, 37.7]
    assert {found["document"], found["verdict"]} <= {"GO", "NO-GO", "UNDECIDED"}
    assert "By the document's rule (go above 0.3, no-go below 0.1)" in done.stdout
    assert (out / "gate.html").is_file()
