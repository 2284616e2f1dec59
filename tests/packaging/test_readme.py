"""What the pages promise: commands that are the tested ones, links that lead somewhere, options that exist."""

import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.main import get_command

import assay
from assay.cli.main import app
from assay.records import StudyRecord
from assay.study.asked import StudyConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

INSTALL = "python3 -m venv .venv && .venv/bin/python -m pip install -c constraints.txt -e"
COMPARE = f"{INSTALL} . && .venv/bin/assay compare"
TEST = f"{INSTALL} '.[test]' && .venv/bin/python -m pytest"
VERBS = get_command(app).commands  # type: ignore[attr-defined]


def code_blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def assay_commands(text: str) -> list[list[str]]:
    """The arguments of every `assay ...` line in the shell blocks of `text`."""
    lines = [line for block in code_blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    found = [re.search(r"(?:^|&& )(?:\.venv/bin/)?assay (.*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def parse(arguments: list[str]) -> None:
    """Parse a command line without carrying it out; a verb or an option that does not exist raises."""
    verb, *rest = arguments
    VERBS[verb].make_context(verb, rest).close()


def slug(heading: str) -> str:
    """The anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files or headings that are not there; addresses on the network are not asked."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE) if file.is_file() else []
        if not file.exists() or (anchor and anchor not in map(slug, headings)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("command", [COMPARE, TEST], ids=["compare", "test"])
def test_command_stands_on_a_line_of_its_own(command: str) -> None:
    assert command in [line for block in code_blocks(README, "sh") for line in block.splitlines()]


def test_ci_ends_with_the_test_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == TEST
    linters = [lines.index(f".venv/bin/{command}") for command in ("ruff check", "ruff format --check", "mypy")]
    assert max(linters) < len(lines) - 1
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_broken_link_is_caught() -> None:
    text = "[a](README.md) [b](docs/none.md) [c](https://example.org) [d](#nowhere) [e](LICENSE)"
    assert broken_links(ROOT / "README.md", text) == ["docs/none.md", "#nowhere"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_shown_parse(page: Path) -> None:
    for arguments in assay_commands(page.read_text(encoding="utf-8")):
        parse(arguments)


def test_readme_shows_every_verb() -> None:
    shown = {arguments[0] for arguments in assay_commands(README)}
    assert shown == set(VERBS)


@pytest.mark.parametrize(
    ("line", "error"),
    [("compare --no-such-option 3", "NoSuchOption"), ("no-such-verb", "KeyError"), ("describe", "MissingParameter")],
)
def test_command_that_does_not_parse_is_caught(line: str, error: str) -> None:
    (arguments,) = assay_commands(f"```sh\n.venv/bin/assay {line}  # a remark\n```\n")
    with pytest.raises(Exception) as caught:  # noqa: PT011 (typer brings its own copy of click's errors)
        parse(arguments)
    assert caught.typename == error


def test_readme_names_every_option_of_compare() -> None:
    options = {name for parameter in VERBS["compare"].params for name in parameter.opts if name.startswith("--")}
    assert {name for name in options - {"--help"} if not re.search(rf"`{name}\b", README)} == set()


def test_python_shown_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[StudyConfig] = []

    def compare(config: StudyConfig, *_: object) -> StudyRecord:
        asked.append(config)
        construct: Callable[..., StudyRecord] = StudyRecord.model_construct
        return construct(pairs=[])

    monkeypatch.setattr("assay.api.compare_study", compare)
    monkeypatch.setattr("assay.api.loaded_plugins", list)  # what other tests have loaded in this process
    names: dict[str, object] = {}
    for block in code_blocks(README, "python"):
        exec(block, names)
    assert isinstance(names["model"], torch.nn.Module)
    assert len(asked) == 1


def test_citation_and_changelog_name_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert assay.__version__ == project["version"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
