"""Studies, runs and checkpoints of schema version 1 are read by every verb that reads; continuing them is not."""

import json
import shutil
from pathlib import Path

import pytest

from cli.command import Assay

FIXTURES = Path(__file__).parents[1] / "fixtures" / "schema1"
RUNS = ("run", "half", "study/runs/gpt1-seed0", "study/runs/rwkv6-seed1")


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assay:
    """The command line in a copy of the folder in which the fixtures were made."""
    folder = tmp_path / "schema1"
    shutil.copytree(FIXTURES, folder)
    monkeypatch.chdir(folder)
    return Assay(capsys, folder, folder)


def test_report_shows_the_study_and_draws_its_page(assay: Assay) -> None:
    said = assay("report", "study", "--json")
    assert said.status == 0, said.err
    study = json.loads(said.out)
    scores = {arm["architecture"]: arm["test"]["nats_per_token"]["mean"] for arm in study["arms"]}
    assert scores["gpt1"] == pytest.approx(5.3498, abs=1e-4)
    assert scores["rwkv6"] == pytest.approx(5.2193, abs=1e-4)
    assert (assay.cwd / "study" / "report.html").stat().st_size > 10_000
    assert "rwkv6 beats gpt1" in assay("report", "study").out


@pytest.mark.parametrize("folder", ["study", "run"])
def test_audit_finds_them_sound(assay: Assay, folder: str) -> None:
    said = assay("audit", folder, "--json")
    assert said.status == 0, said.err + said.out
    result = json.loads(said.out)
    assert result["sound"]
    assert len(result.get("models", [result])) == (2 if folder == "study" else 1)


@pytest.mark.parametrize("folder", RUNS)
def test_generate_and_export_load_the_weights(assay: Assay, folder: str) -> None:
    said = assay("generate", folder, "--prompt", "abc", "--max-tokens", "3", "--json")
    assert said.status == 0, said.err
    assert len(json.loads(said.out)["texts"][0]["ids"]) == 3
    said = assay("export", folder, "--to", "exported")
    assert said.status == 0, said.err
    assert (assay.cwd / "exported" / "model.safetensors").exists()


def test_continuing_is_refused_in_one_line_and_leaves_all_as_it_was(assay: Assay) -> None:
    before = {path: path.read_bytes() for path in assay.cwd.rglob("*") if path.is_file()}
    small = ["--corpus", "text:text.jsonl", "--tokenizer", "bytes", "--context", "16", "--batch-tokens", "64"]
    for command in (["compare", "gpt1", "rwkv6", "--out", "study"], ["train", "gpt1", "--out", "half"]):
        said = assay(*command, *small)
        assert (said.status, said.out) == (2, "")
        (line,) = said.lines
        assert "was made by an older assay (version 1)" in line
        assert line.endswith("a new folder would do")
    assert before == {path: path.read_bytes() for path in assay.cwd.rglob("*") if path.is_file()}


def test_their_configurations_may_be_asked_again(assay: Assay) -> None:
    again = assay("train", "--config", "half/config.yaml", "--out", "again", "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out)["label"] == "gpt1"


def test_runs_of_both_versions_are_listed(assay: Assay) -> None:
    said = json.loads(assay("list", "runs", ".", "--json").out)
    states = {entry["folder"]: (entry["kind"], entry["arms"], entry["state"]) for entry in said["runs"]}
    assert states == {
        "half": ("run", ["gpt1"], "step 6"),
        "run": ("run", ["mamba2"], "finished"),
        "study": ("study", ["gpt1", "rwkv6"], "finished, 4 runs"),
    }
