"""Standard descriptors that are closed, and arguments that are no text: no stack trace."""

import os
import subprocess
import sys

import pytest

from assay.cli.main import main
from cli.command import Assay

OPENED = """
import os, sys
from assay.cli.streams import open_missing
open_missing()
with open(os.devnull) as file:
    print(file.fileno() > 2, sys.stdin.read() == "", file=sys.stderr)
os.write(1, b"")
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_closed_descriptor_is_the_null_device(closed: str) -> None:
    """The next file that is opened does not get the number of a standard stream, here or in a child."""
    command = ["bash", "-c", f'"$0" -c "$1" {closed} </dev/null' if "<" not in closed else f'"$0" -c "$1" {closed}']
    got = subprocess.run([*command, sys.executable, OPENED], capture_output=True, text=True, timeout=60)
    assert (got.returncode, got.stderr) == (0, "True True\n")


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_verb_works_with_closed_descriptors(closed: str) -> None:
    got = subprocess.run(["bash", "-c", f'"$0" -m assay list corpora {closed}', sys.executable], capture_output=True)
    assert (got.returncode, got.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")
def test_lines_that_nobody_takes_change_no_exit_status(capfd: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        got = subprocess.run([sys.executable, "-m", "assay", "train", "gpt9"], stderr=full)
    assert got.returncode == 2
    code = "from assay.cli.streams import tell; tell('one'); tell('two'); print('done')"
    closed = subprocess.run(["bash", "-c", '"$0" -c "$1" 2>/dev/full', sys.executable, code], capture_output=True)
    assert (closed.returncode, closed.stdout) == (0, b"done\n")
    assert capfd.readouterr().err == ""


def test_a_stream_that_cannot_show_a_letter_escapes_it() -> None:
    code = "from assay.cli.streams import open_missing; open_missing(); print('1 \\u00b1 2')"
    surroundings = {**os.environ, "PYTHONIOENCODING": "ascii"}
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, env=surroundings)
    assert (got.returncode, got.stdout) == (0, b"1 \\xb1 2\n")


COMMANDS = {
    "a prompt": (
        ["generate", "run", "--prompt", "caf\udce9"],
        "--prompt: 'caf\\udce9' given, not UTF-8 (0xe9) after 3",
    ),
    "a prompt behind =": (
        ["generate", "run", "--prompt=\udcff"],
        "--prompt: '\\udcff' given, not UTF-8 (0xff) after 0",
    ),
    "half a surrogate pair": (["generate", "run", "--prompt", "a\ud83d"], "half a surrogate pair (U+D83D) after 1"),
    "a corpus": (["compare", "--corpus", "text:\udce9.txt"], "--corpus: 'text:\\udce9.txt' given, not UTF-8"),
    "a folder": (["train", "gpt1", "--out", "\udce9"], "--out: "),
    "an arm": (["compare", "\udce9=gpt1"], "argument 2: "),
    "a setting": (["train", "gpt1", "--set", "data.corpus=\udce9"], "--set: "),
    "a plug-in": (["list", "--plugin", "\udce9.py"], "--plugin: "),
    "a name": (["new", "\udce9"], "argument 2: "),
    "an option": (["train", "--\udce9"], "argument 2: "),
    "a verb": (["\udce9"], "argument 1: "),
    "a zero byte": (["report", "a\0b"], "argument 2: 'a\\x00b' given, a zero byte after 1 character"),
    "an escape in YAML": (["train", "gpt1", "--set", 'data.corpus="text:\\ud800"'], "half a surrogate pair (U+D800)"),
    "a zero byte in YAML": (["train", "gpt1", "--set", 'data.corpus="text:\\0"'], "a zero byte after 5 characters"),
    "no letter at all in YAML": (["train", "gpt1", "--set", 'data.corpus="\\U00110000"'], "the value is not YAML"),
}


EMPTY = {
    "an empty folder": (["train", "gpt1", "--out", ""], "--out: '' given, an empty path"),
    "an empty folder behind =": (["train", "gpt1", "--out="], "--out: '' given, an empty path"),
    "an empty subject": (["audit", ""], "argument 2: '' given, an empty text"),
}
COMMANDS |= EMPTY


@pytest.mark.parametrize("case", COMMANDS)
def test_what_is_no_text_is_refused_in_one_line(case: str, assay: Assay) -> None:
    arguments, says = COMMANDS[case]
    got = assay(*arguments)
    assert (got.status, got.out, assay.left()) == (2, "", [])
    (line,) = got.lines
    assert says in line
    line.encode()


def test_a_file_of_settings_that_holds_no_text(assay: Assay) -> None:
    path = assay.cwd.parent / "half.yaml"
    path.write_text('data: {corpus: "text:\\ud800"}\n')
    got = assay("train", "gpt1", "--config", str(path))
    assert got.status == 2
    assert f"--config {path}: line 1: 'text:\\ud800': half a surrogate pair" in got.err


def test_a_closed_pipe_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `assay list | head -1`, which typer ends with SystemExit."""

    def closed(**_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr("assay.cli.main.app", closed)
    assert main(["list"]) == 0
