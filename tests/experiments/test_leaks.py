"""Document 001's story and the gallery run as scripts: leaks are named, sound models pass."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES
from assay.model.sizing import build_on_meta
from assay.study.asked import StudyConfig
from assay.study.resolve import arm_dimensions
from study.made_up import write_corpus

LEAKS = Path(__file__).parents[2] / "experiments/leaks"
SCRIPT = LEAKS / "document_001/run.py"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LEAKS / name / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_the_protocol_is_the_same_for_both_arms(scale: str) -> None:
    """A study that parses, in which the arms differ by the replica's unused projections alone: within a tenth."""
    module = script("document_001")
    config = StudyConfig.parse({"arms": list(module.ARMS), **module.protocol("stdlib", scale)})
    totals = []
    for arm in config.arms:
        architecture = ARCHITECTURES.get(arm.architecture)
        dimensions = architecture.config.parse({"vocab_size": 258, **arm_dimensions(architecture, config, arm)})
        totals.append(count_parameters(build_on_meta(architecture, dimensions)).total)
    assert abs(totals[0] - totals[1]) < 0.1 * max(totals)
    assert ARCHITECTURES.get(module.ARMS[0]).sound_twin == module.ARMS[1]


@pytest.mark.slow
def test_document_001_tiny(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", documents=40, words=100)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--scale", "tiny", "--json", "--corpus", f"text:{corpus}", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said = json.loads(done.stdout.splitlines()[-1])
    replica, causal = said["results"]["groundthink-v7"], said["results"]["groundthink"]
    assert replica["targets"] == causal["targets"] > 100
    assert abs(causal["difference"]) < 1e-5 < abs(replica["difference"])
    assert causal["audit"]["sound"]
    assert not replica["audit"]["sound"]
    (causality,) = [finding for finding in replica["audit"]["findings"] if finding["check"] == "causality"]
    assert causality["status"] == "fail"
    for layer in ("blocks.1.mixer (ReaderLayerV7)", "blocks.2.mixer (MemoryLayerV7)"):
        reads = f"{layer} reads, or starts from, `shared['groundthink.final_state']`"
        assert reads in causality["explanation"]
    assert said["floors"].keys() == {"unigram", "ngram"}
    assert Path(said["report"]).exists()


def test_the_gallery_is_audited(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = script("gallery")
    monkeypatch.setattr(sys, "argv", ["run.py", "--scale", "tiny", "--json"])
    assert module.main() == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [each["kind"] for each in said["answers"]] == ["mutant"] * 2 + ["twin"] * 2 + ["sound"] * 2
    assert [each["sound"] for each in said["answers"]] == [False] * 2 + [True] * 4
    assert said["answers"][0]["where"].startswith("blocks.1.mixer: ")


def test_a_wrong_answer_about_the_gallery_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = script("gallery")
    mutant, _, twin, *_ = module.cases("tiny")
    monkeypatch.setattr(module, "cases", lambda _: [mutant._replace(make=twin.make), twin])
    monkeypatch.setattr(sys, "argv", ["run.py", "--scale", "tiny"])
    assert module.main() == 1
    assert f"WRONG mutant {mutant.name}: sound" in capsys.readouterr().out
