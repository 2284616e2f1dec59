"""What messages advise works from where the user stands; help has examples; lists are not wrapped for programs."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from assay.cli.main import EXAMPLES, VERBS, app
from assay.cli.program import as_called, program
from assay.extras import brings
from assay.model.architecture import ARCHITECTURES
from cli.command import Assay

NANO = """
from torch import nn


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = nn.Embedding(config, config)

    def forward(self, ids):
        return self.table(ids)
"""


def test_every_verb_has_an_example_in_its_help(assay: Assay) -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    for verb, example in EXAMPLES.items():
        for flag in ("-h", "--help"):
            got = assay(verb, flag)
            assert got.status == 0
            assert f"Example: {example}" in got.out
        assert shlex.split(example)[:2] == ["assay", verb]
    assert app.info.name == "assay"


@pytest.mark.parametrize(
    ("called", "found", "name"),
    [
        ("/home/me/.venv/bin/assay", None, "/home/me/.venv/bin/assay"),
        ("/home/me/my env/bin/assay", None, "'/home/me/my env/bin/assay'"),
        ("/usr/bin/assay", "/usr/bin/assay", "assay"),
        ("/src/assay/__main__.py", None, f"{shlex.quote(sys.executable)} -m assay"),
        ("/usr/bin/pytest", None, "assay"),
    ],
)
def test_commands_are_named_as_assay_was_called(
    called: str, found: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert program() == name
    assert as_called("`assay train` goes on") == f"`{name} train` goes on"


def test_a_missing_package_is_installed_by_name_into_this_python() -> None:
    assert brings("datasets").startswith(f"`{shlex.quote(sys.executable)} -m pip install 'datasets")
    assert "assay[" not in brings("datasets")
    assert brings("no-such-package").endswith("-m pip install no-such-package` brings it")


@pytest.mark.parametrize("verb", [["audit"], ["measure"], ["generate", "--prompt", "x"]])
def test_a_folder_of_hugging_face_is_told_by_its_name(verb: list[str], assay: Assay) -> None:
    (assay.cwd / "model").mkdir()
    (assay.cwd / "model" / "config.json").write_text("{}")
    got = assay(verb[0], "model", *verb[1:])
    assert (got.status, got.out) == (2, "")
    assert got.lines == ["assay: model: is in Hugging Face's layout; hf:model would do"]


def test_a_constructor_that_takes_a_configuration(assay: Assay) -> None:
    path = assay.cwd / "nano.py"
    path.write_text(NANO)
    got = assay("audit", "nano.py")
    assert got.status == 2
    (line,) = got.lines
    assert line.startswith("assay: nano.py:GPT: takes config, which only you know; a ready object")
    assert "`model = GPT(...)`" in line
    path.write_text(NANO + "\n\nmodel = GPT(19)\n")
    assert assay("audit", "nano.py", "--json").status in (0, 1)


@pytest.mark.parametrize(
    ("key", "named"),
    [("lr", "training.learning_rate"), ("init", "model.initialisation")],
)
def test_the_name_of_a_flag_leads_to_its_key(key: str, named: str, assay: Assay) -> None:
    got = assay("train", "gpt1", "--set", f"{key}=1")
    assert got.lines == [f"assay: --set {key}: unknown key; did you mean '{named}'? (--{key} sets it too)"]
    (assay.cwd / "c.yaml").write_text(f"{key}: 1\n")
    got = assay("train", "gpt1", "--config", "c.yaml")
    assert got.lines == [f"assay: --config c.yaml: unknown key '{key}': did you mean '{named}'?"]


def test_a_list_for_a_program_has_a_line_an_item(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = assay("list", "architectures").out.splitlines()
    assert lines[0] == "architectures"
    assert [line.split()[0] for line in lines[1:] if line] == ARCHITECTURES.names()
    assert not any(line != line.rstrip() for line in lines)


@pytest.mark.parametrize("end", ['torch.stack(outputs, 1)) * float("nan")', "torch.stack(outputs, 1)) / 0"])
def test_the_first_number_that_is_not_finite_is_named_first(
    end: str, assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ARCHITECTURES.names()
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(ARCHITECTURES._items))  # what the file registers is forgotten
    assert assay("new", "my_mixer").status == 0
    path = Path("my_mixer.py")
    path.write_text(path.read_text().replace("torch.stack(outputs, 1))", end))
    got = assay("check", "my_mixer.py")
    assert (got.status, got.out) == (2, "")
    (line,) = got.lines
    assert "MyMixer.forward returned " in line
    assert "first at token 0 of" in line


def test_a_run_shows_floors_and_the_sizes_of_its_splits(assay: Assay) -> None:
    shown = assay("train", "gpt1", *assay.small, "--out", "run").out
    assert "not beaten" in shown
    for start in ("unigram ", "train split ", "validation split ", "test split "):
        assert any(line.startswith(start) for line in shown.splitlines()), start
    assert any(re.match(r"\d-gram +\d\.\d{4} nats per token, (not )?beaten$", line) for line in shown.splitlines())


def test_describe_says_where_its_dimensions_are_from(assay: Assay) -> None:
    plain, sized = assay("describe", "gpt1").out, assay("describe", "gpt1", "--size", "1M").out
    assert "the defaults of its recipe" in plain
    assert "solved for --size 1,000,000 and text as bytes" in sized
    assert re.search(r"vocab_size +258\b", sized)
    other = assay("describe", "gpt1", "--set", "vocab_size=500", "--size", "1M").out
    assert re.search(r"vocab_size +500\b", other)
    assert "text as bytes" not in other
    assert "untied, published tied: --set heads=published" in plain
    assert "tied, as published" in assay("describe", "gpt1", "--set", "heads=published").out
