"""The MQAR experiment runs as a script, and its delta rule solves what two layers can solve."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_delta_net_solves_mqar(tmp_path: Path) -> None:
    """It needs some 30,000 sequences; a budget of 200,000 tells a broken task or layer from a slow start."""
    command = [sys.executable, str(ROOT / "experiments/mqar/run.py"), "--only", "delta-net", "--rates", "3e-3"]
    done = subprocess.run(
        [*command, "--sequences", "200000", "--json", "--out", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    result = json.loads(done.stdout.splitlines()[-1])["delta-net"]
    assert result["accuracy"] >= 0.99
    assert result["sequences"] < 200_000
