"""Document 000's experiment runs as a script and gives its first loss."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.made_up import write_corpus

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_phase0_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    command = [sys.executable, str(ROOT / "experiments/phase0/run.py"), "--scale", "smoke", "--json"]
    # A made-up language of sixty words has no 512 merges; the bytes of its words have to do.
    done = subprocess.run(
        [*command, "--corpus", f"text:{corpus}", "--tokenizer", "bytes", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    results = json.loads(done.stdout.splitlines()[-1])["results"]
    assert results.keys() == {"gpt1", "rwkv6", "mamba2"}
    for result in results.values():
        assert result["first_nats"] == pytest.approx(math.log(258), abs=0.02)
        assert result["last_ten_nats"] < result["first_nats"] - 1
        assert result["growth_with_embedding"] > result["growth_without_embedding"]
