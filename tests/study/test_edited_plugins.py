"""An edited plug-in, or an edited module beside it, is another spec: another folder, or one line; nothing is mixed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.plugins.loading import load_plugin
from assay.records import RunRecord
from cli.command import Assay
from study.made_up import write_corpus

PLUGIN = """
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, register
from scale import SCALE


class Mean(NamedTuple):
    total: Tensor


class Running(SequenceLayer):
    decay_roles = {}

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None, shared=None):
        total = x.cumsum(1) + (0 if state is None else state.total[:, None])
        return self.out(total * SCALE), Mean(total[:, -1].clone())

    def initial_state(self, batch, capacity=None):
        return Mean(self.out.weight.new_zeros(batch, self.out.in_features))

    def reset_parameters(self, generator):
        nn.init.normal_(self.out.weight, 0.0, 0.02, generator=generator)


register(
    Architecture(
        name="ema",
        summary="A running sum",
        citation="none",
        mixer=lambda config, index: Running(config.d_model),
    )
)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assay:
    """The command line in a folder with a plug-in and a module beside it; no page is drawn, no speed measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: None)
    (tmp_path / "it.py").write_text(PLUGIN)
    (tmp_path / "scale.py").write_text("SCALE = 0.5\n")
    yield Assay(capsys, corpus, tmp_path)
    (tmp_path / "it.py").write_text("")  # an edit after which nothing is registered any more
    load_plugin(tmp_path / "it.py")


def edit_plugin(folder: Path) -> None:
    (folder / "it.py").write_text(PLUGIN.replace("total * SCALE", "total / SCALE"))


def edit_module(folder: Path) -> None:
    (folder / "scale.py").write_text("SCALE = 0.7\n")


Edit = Callable[[Path], None]
EDITS = pytest.mark.parametrize("edit", [edit_plugin, edit_module])


def command(assay: Assay, verb: str, *more: str) -> list[str]:
    small = [*assay.small, "--set", "measurements=[]"] if verb == "compare" else assay.small
    return [verb, "ema", "--plugin", "it.py", *small, *more]


def folder_of(out: str) -> Path:
    return Path(json.loads(out.splitlines()[-1])["folder"])


@EDITS
def test_an_edit_is_another_folder_by_default(edit: Edit, assay: Assay) -> None:
    first = assay(*command(assay, "train", "--json"))
    assert first.status == 0, first.err
    again = assay(*command(assay, "train", "--json"))
    assert folder_of(again.out) == folder_of(first.out)
    assert again.err.endswith(": finished before; shown again, nothing is trained\n")
    edit(assay.cwd)
    edited = assay(*command(assay, "train", "--json"))
    assert folder_of(edited.out) != folder_of(first.out)
    old, new = (json.loads(said.out.splitlines()[-1]) for said in (first, edited))
    assert old["measurements"]["likelihood"] != new["measurements"]["likelihood"]
    assert old["spec"]["plugins"].keys() == new["spec"]["plugins"].keys() == {"it.py"}
    assert old["spec"]["plugins"] != new["spec"]["plugins"]


@EDITS
def test_a_finished_study_refuses_an_edit(edit: Edit, assay: Assay) -> None:
    done = assay(*command(assay, "compare", "--seeds", "1", "--out", "study"))
    assert done.status == 0, done.err
    before = {path: path.stat().st_mtime_ns for path in Path("study").rglob("*") if path.is_file()}
    edit(assay.cwd)
    for seeds in ("1", "2"):
        got = assay(*command(assay, "compare", "--seeds", seeds, "--out", "study"))
        assert (got.status, got.out) == (2, "")
        assert got.lines == ["assay: --out study: it.py changed since the end of ema-seed0; a new folder would do"]
    assert before == {path: path.stat().st_mtime_ns for path in Path("study").rglob("*") if path.is_file()}


@EDITS
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_half_done_run_is_not_continued_under_edited_code(
    edit, verb: str, assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    more = ["--seeds", "1"] if verb == "compare" else []
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write", crash)
        with pytest.raises(Crash):
            assay(*command(assay, verb, *more, "--out", "half"))
    edit(assay.cwd)
    got = assay(*command(assay, verb, *more, "--out", "half"))
    assert (got.status, got.out) == (2, "")
    assert got.lines == ["assay: --out half: it.py changed since step 2 of ema-seed0; a new folder would do"]


def test_the_configuration_carries_its_plugins(assay: Assay) -> None:
    """--config loads what it lists; an edited file, and one that lies among results, are refused."""
    assert assay(*command(assay, "compare", "--seeds", "1", "--out", "study")).status == 0
    text = Path("study/config.yaml").read_text()
    assert "- path: it.py\n  sha256: " in text
    again = assay("compare", "--config", "study/config.yaml", "--out", "again", "--json")
    assert again.status == 0, again.err
    assert "added" not in Path("again/config.yaml").read_text() or "added: []" in Path("again/config.yaml").read_text()
    weights = [next(Path(name).rglob("model.safetensors")).read_bytes() for name in ("study", "again")]
    assert weights[0] == weights[1]
    edit_module(assay.cwd)
    got = assay("compare", "--config", "study/config.yaml", "--out", "third")
    assert got.status == 2
    (line,) = got.lines
    assert "it.py: changed since the configuration was written" in line
    assert line.endswith("--plugin it.py takes it as it is")
    taken = assay("compare", "--config", "study/config.yaml", "--plugin", "it.py", "--out", "third")
    assert taken.status == 0, taken.err


def test_no_code_among_results_is_executed(assay: Assay) -> None:
    assert assay(*command(assay, "train", "--out", "run")).status == 0
    Path("run/evil.py").write_text("raise SystemExit('executed')\n")
    text = Path("run/config.yaml").read_text()
    assert f"path: {assay.cwd / 'it.py'}" in text, "a path that holds in every folder"
    Path("run/config.yaml").write_text(text.replace(str(assay.cwd / "it.py"), "run/evil.py"))
    got = assay("train", "--config", "run/config.yaml", "--out", "other")
    assert got.status == 2
    assert "lies among the results" in got.err


def test_an_arm_without_the_plugin_does_not_depend_on_it(assay: Assay) -> None:
    out = ["--out", "study", "--seeds", "1"]
    both = ["compare", "gpt1", "ema", "--plugin", "it.py", *assay.small, "--set", "measurements=[]", *out]
    assert assay("compare", "gpt1", *assay.small, "--set", "measurements=[]", *out).status == 0
    (alone,) = Path("study/runs").iterdir()
    before = (alone / "record.json").stat().st_mtime_ns
    grown = assay(*both)
    assert grown.status == 0, grown.err
    assert (alone / "record.json").stat().st_mtime_ns == before
    assert len(list(Path("study/runs").iterdir())) == 2


@EDITS
def test_trained_weights_do_not_run_under_edited_code(edit: Edit, assay: Assay) -> None:
    assert assay(*command(assay, "train", "--out", "run")).status == 0
    assert assay("generate", "run", "--prompt", "a", "--max-tokens", "2", "--plugin", "it.py").status == 0
    edit(assay.cwd)
    for verb in (["generate", "run", "--prompt", "a"], ["audit", "run"], ["export", "run", "--to", "exported"]):
        got = assay(*verb, "--plugin", "it.py")
        assert (got.status, got.out) == (2, "")
        assert got.lines == ["assay: run: it.py changed since it was trained; the file as it was would do"]


def test_the_same_code_under_another_name_is_no_way_around(assay: Assay) -> None:
    assert assay(*command(assay, "compare", "--seeds", "1", "--out", "study")).status == 0
    Path("it2.py").write_text(PLUGIN.replace("total * SCALE", "total / SCALE"))
    Path("it.py").unlink()
    renamed = [part if part != "it.py" else "it2.py" for part in command(assay, "compare", "--out", "study")]
    for seeds in ("1", "2"):
        got = assay(*renamed, "--seeds", seeds)
        assert (got.status, got.out) == (2, "")
        assert got.lines == ["assay: --out study: it.py changed since the end of ema-seed0; a new folder would do"]
    Path("it2.py").write_text("")
    load_plugin(Path("it2.py"))
