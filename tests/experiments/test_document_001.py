"""Document 001's experiment runs as a script in both forms, and goes on where it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.made_up import write_corpus

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_document_001_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    command = [sys.executable, str(ROOT / "experiments/document_001/run.py"), "--scale", "smoke", "--jobs", "1"]
    asked = [
        "--only",
        "GDN G;static 0.3, text;drop 0.7, mixed",
        "--corpus",
        f"text:{corpus}",
        "--out",
        tmp_path / "out",
    ]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *asked, "--json"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    first, again = run(), run()
    found = json.loads(first.stdout.splitlines()[-1])
    assert first.stdout == again.stdout, "what was measured is read"
    assert found["document"]["drop 0.7, mixed"]["zeroed"] == 12
    for name, forms in found["outcomes"].items():
        assert forms.keys() == {"replica", "causal"}
        for of in forms.values():
            assert 0 <= of["normal_top"][1] <= of["normal_top"][0] <= of["normal_top"][2] <= 1
            assert ("text" in of) == (name != "GDN G")
    assert "the document said that the memory gives +25 points" in first.stdout.replace("\n", " ")
    mixed = found["outcomes"]["drop 0.7, mixed"]["causal"]["text"]
    assert abs(mixed["gained_nats"]) < 1e-4, "the causal form reads nothing that comes later"
