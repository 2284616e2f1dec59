"""Document 004's gate as a script: its sizes are counted, and at the smoke scale everything is said."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from study.made_up import write_corpus

SCRIPT = Path(__file__).parents[2] / "experiments/v5_gate/run.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("v5_gate_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_document_s_small_gpt2_is_mostly_embedding(script: ModuleType) -> None:
    total, inside = script.counted("3.5M")
    assert total - inside >= 50_257 * 256  # 12.9 million in the table alone, where the document says 3.5 in all
    assert total > 4 * script.DOCUMENT["3.5M"]["says"]


@pytest.mark.slow
def test_v5_gate_smoke(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=60, words=200)
    out = tmp_path / "gate"
    command = [
        sys.executable,
        str(SCRIPT),
        "--scale",
        "smoke",
        "--json",
        "--corpus",
        f"text:{corpus}",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"].keys() == found["document"].keys() == {"twin", "groundthink"}
    assert {"Erratum 9", "Erratum 10"} <= {line[:10].rstrip(":") for line in done.stdout.splitlines()}
    for line in ("statefulness", "recall", "long context"):
        assert line in done.stdout
    assert "fail trigger" in done.stdout
    assert (out / "gate.html").is_file()
