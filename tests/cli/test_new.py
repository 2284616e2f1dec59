"""What `assay new` writes is typed and laid out as anybody's linters ask, for every name and kind."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay as package
from assay.cli.new import CORPUS, LONGEST_NAME, MEASUREMENT, MIXER, TASK, Kind
from assay.data.corpus import CORPORA
from assay.data.task import TASKS
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.scoring import ScoredBatch
from assay.model.architecture import ARCHITECTURES
from assay.registry import Registry
from assay.targets import IGNORED
from cli.command import Assay
from cli.test_own_mixer import names

SETTINGS = Path(__file__).parents[2] / "pyproject.toml"
SOURCE = Path(package.__file__).parents[1]
KINDS = (MIXER, CORPUS, TASK, MEASUREMENT)


@pytest.fixture(autouse=True)
def _registries_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registries: list[Registry[Any]] = [ARCHITECTURES, CORPORA, TASKS, MEASUREMENTS]
    for registry in registries:
        registry.names()
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    return


def write(assay: Assay, kind: Kind, name: str) -> int:
    return assay(*kind.option.split(), name).status


def ran(*command: str, **environment: str) -> str:
    """What a tool says where it finds fault, else nothing."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("settings", [["--isolated"], ["--config", str(SETTINGS)]], ids=["ruff's own", "ours"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_ruff_finds_no_fault_whatever_the_name(assay: Assay, kind: Kind, settings: list[str]) -> None:
    written = [name for name in names() if write(assay, kind, name) == 0]
    assert len(written) > 50
    assert "x" * LONGEST_NAME in written
    assert ran("ruff", "check", "--no-cache", *settings, ".") == ""
    assert ran("ruff", "format", "--no-cache", "--check", *settings, ".") == ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_ruff_would_find_a_fault(assay: Assay, kind: Kind) -> None:
    assert write(assay, kind, "mine") == 0
    path = Path("mine.py")
    path.write_text(path.read_text().replace("import", "import os,", 1))
    assert ran("ruff", "check", "--no-cache", "--isolated", ".") != ""


@pytest.mark.slow
def test_mypy_finds_no_fault(assay: Assay) -> None:
    """And would: a file that is wrong is found beside them."""
    for kind in KINDS:
        assert [write(assay, kind, f"{kind.noun}{name}") for name in ("-of-mine", "I", "x" * 20)] == [0, 0, 0]
    files = sorted(path.name for path in Path.cwd().glob("*.py"))
    command = ["mypy", "--strict", "--follow-imports=silent", "--scripts-are-modules", "--cache-dir", "cache"]
    assert ran(*command, *files, MYPYPATH=str(SOURCE)) == ""
    wrong = Path("mixerI.py")
    wrong.write_text(wrong.read_text().replace("return State(", "return str("))
    assert "mixerI.py" in ran(*command, *files, MYPYPATH=str(SOURCE))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            (),
            "new: 0 names given; NAME of a mixer, or --corpus NAME, --task NAME, --measurement NAME, would do, one at "
            "a time",
        ),
        (("mine", "--corpus", "mine"), "new: 2 names given; NAME of a mixer, or --corpus NAME"),
        (("--corpus", "9lives"), "new --corpus 9lives: a name of letters"),
        (("--corpus", "stdlib"), "new --corpus stdlib: there is a corpus of that name; my_stdlib would do"),
        (("--task", "copying"), "new --task copying: there is a task of that name; my_copying would do"),
        (("--measurement", "recall"), "new --measurement recall: there is a measurement of that name"),
        (("--corpus", "torch"), "new --corpus torch: a torch.py would hide the module torch; my_torch.py would do"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(assay: Assay, arguments: tuple[str, ...], says: str) -> None:
    said = assay("new", *arguments)
    assert said.status == 2
    assert says in said.err
    assert len(said.lines) == 1
    assert assay.left() == []


def test_the_corpus_is_listed_and_trained_on(assay: Assay) -> None:
    said = assay("new", "--corpus", "my_text")
    assert said.status == 0
    assert "assay compare --corpus my_text --plugin my_text.py" in said.out
    listed = json.loads(assay("list", "corpora", "--plugin", "my_text.py", "--json").out)
    assert listed["corpora"]["my_text"] == "Sums of small numbers"
    options = [text if not text.startswith("text:") else "my_text" for text in assay.small]
    trained = assay("train", "gpt1", *options, "--plugin", "my_text.py", "--out", "run")
    assert trained.status == 0, trained.err
    assert Path("run/record.json").exists()


def test_the_task_is_described_and_trained_on(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(TASKS._items)
    said = assay("new", "--task", "my_task")
    assert said.status == 0
    assert "assay train transformer++ --task my_task --context 64 --plugin my_task.py" in said.out
    described = json.loads(assay("describe", "my_task:length=4", "--plugin", "my_task.py", "--json").out)
    assert (described["shortest_context"], described["vocab_size"]) == (8, 18)
    options = ["--context", "32", "--batch-tokens", "256", "--tokens", "512", "--set", "d_model=64"]
    more = ["--set", "n_layers=1", "--set", "evaluation.test_tokens=512"]
    trained = assay("train", "gpt1", "--task", "my_task", "--plugin", "my_task.py", *options, *more, "--out", "run")
    assert trained.status == 0, trained.err
    monkeypatch.setattr(TASKS, "_items", before)
    unknown = assay("measure", "run", "--only", "honest_likelihood")
    brings = f"--plugin {assay.cwd / 'my_task.py'} brings it"
    assert (unknown.status, unknown.lines[-1:]) == (2, [f"assay: run: its task 'my_task' is not known here; {brings}"])


def test_the_measurement_measures(assay: Assay) -> None:
    said = assay("new", "--measurement", "my_question")
    assert said.status == 0
    assert "assay measure RUN --only my_question --plugin my_question.py" in said.out
    assert assay("train", "gpt1", *assay.small, "--out", "run").status == 0
    got = assay("measure", "run", "--only", "my_question", "--plugin", "my_question.py", "--json")
    assert got.status == 0, got.err
    assert '"my_question"' in got.out.splitlines()[-1]
    shown = assay("measure", "run", "--only", "my_question", "--plugin", "my_question.py")
    assert "right" in shown.out


def test_the_measurement_forms_few_logits_at_a_time_and_takes_a_text_without_targets(assay: Assay) -> None:
    assert assay("new", "--measurement", "my_question").status == 0
    (path,) = assay.cwd.glob("*.py")
    written = runpy.run_path(str(path))
    (question,) = [item for item in MEASUREMENTS if item.name == "my_question"]
    rows: list[int] = []

    def head(hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return hidden

    targets = np.arange(600).reshape(2, 300) % 7
    hidden = torch.nn.functional.one_hot(torch.from_numpy(targets), 7).float()
    for asked, share in ((targets, 1.0), (np.full_like(targets, IGNORED), 0.0)):
        reader = written["FirstChoices"]()
        reader.read(ScoredBatch(np.arange(2), targets, asked, hidden, np.zeros(targets.shape), head))
        values = question.measure(None, [reader])  # type: ignore[arg-type, call-arg]
        assert (values.share, values.targets) == (share, int((asked != IGNORED).sum()))
    assert max(rows) <= 256
