"""Failures that are not the user's: a full disk, an interruption, a bug in assay. One line and an exit status each."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import save_file

from assay.cli.main import main
from assay.cli.progress import HELD_SECONDS, StudyProgress
from assay.records import RunRecord
from assay.study import run as study_run
from assay.training import checkpoint
from cli.command import Assay

Patch = pytest.MonkeyPatch


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/file")


def full_in_safetensors(*_: Any, **__: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def after(calls: int, real: Callable[..., Any], failure: Callable[..., Any]) -> Callable[..., Any]:
    """A function that behaves as `real` for `calls` calls and then as `failure`."""
    left = [calls]

    def function(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        return real(*arguments, **options) if left[0] >= 0 else failure()

    return function


EARLY: dict[str, Callable[[Patch], None]] = {
    "config.yaml": lambda patch: patch.setattr("assay.study.folder.write_whole", full),
    "tokenizer.json": lambda patch: patch.setattr("assay.data.text.tokenizer.write_whole", full),
    "metrics.jsonl": lambda patch: patch.setattr("assay.training.loop.write_whole", full),
    "the first weights": lambda patch: patch.setattr("assay.training.checkpoint.save_file", full_in_safetensors),
    "the first progress": lambda patch: patch.setattr("assay.training.checkpoint.TrainingProgress.write", full),
}


@pytest.mark.parametrize(
    ("moment", "verb"),
    [*((moment, "train") for moment in EARLY), ("config.yaml", "compare"), ("the first weights", "compare")],
)
def test_no_space_before_the_first_checkpoint_leaves_nothing(
    moment: str, verb: str, assay: Assay, monkeypatch: Patch
) -> None:
    assay("train", "gpt1", *assay.small, "--body", "banana")  # the cache is filled, and nothing else happens
    (assay.cwd / "thesis.txt").write_text("mine")
    EARLY[moment](monkeypatch)
    got = assay(verb, "gpt1", *assay.small, "--out", "deep/out")
    assert (got.status, got.out) == (2, "")
    assert got.lines[-1].startswith("assay: ")
    assert "no space left; make room for files or standard output, or give another --out" in got.lines[-1]
    assert [line for line in got.lines if line.startswith("assay: ")] == got.lines[-1:]
    assert assay.left() == ["thesis.txt"]


def test_no_space_after_a_checkpoint_keeps_it_and_the_same_command_continues(assay: Assay, monkeypatch: Patch) -> None:
    command = ["train", "gpt1", *assay.small, "--set", "training.checkpoint_interval=1", "--out", "out"]
    monkeypatch.setattr(checkpoint, "save_file", after(2, save_file, full_in_safetensors))
    got = assay(*command)
    assert got.status == 2
    assert "no space left" in got.lines[-1]
    left = assay.left()
    assert "out/checkpoint/model.safetensors" in left
    assert not [name for name in left if ".new" in name or ".old" in name]
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    assert assay(*command).status == 0
    assert RunRecord.read(assay.cwd / "out" / "record.json").interruptions == 1


def test_no_space_for_the_record_or_the_page(assay: Assay, monkeypatch: Patch) -> None:
    """The finished training is kept, and the same command then completes the study."""
    command = ["compare", "gpt1", "--seeds", "1", *assay.small, "--out", "out"]
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "write", full)
        assert assay(*command).status == 2
    with monkeypatch.context() as patch:
        patch.setattr("assay.study.conclude.write_report", full)
        assert assay(*command).status == 2
    assert not (assay.cwd / "out" / "study.json").exists()
    monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: Path("report.html"))
    assert assay(*command, "--json").status == 0


def test_a_cache_that_cannot_be_written_is_no_failure(assay: Assay, bad: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(bad / "notes.txt" / "cache"))
    got = assay("train", "gpt1", *assay.small, "--out", "out")
    assert got.status == 0
    assert any("carrying on in memory" in line for line in got.lines)


def test_interrupted(assay: Assay, monkeypatch: Patch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_run, "train", interrupt)
    got = assay("train", "gpt1", *assay.small)
    assert (got.status, got.out) == (130, "")
    assert got.lines == ["assay: interrupted; the same command continues from the last checkpoint"]


def test_a_reader_that_goes_away_is_no_failure(assay: Assay, monkeypatch: Patch) -> None:
    """As `head` does, once it has read its line."""

    def gone(*_: Any, **__: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # typer replaces both; they are put back
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(study_run, "train", gone)
    assert main(["train", "gpt1", *assay.small]) == 0


def test_our_fault_is_one_line_and_the_traceback_on_request(assay: Assay, monkeypatch: Patch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(study_run, "train", broken)
    got = assay("train", "gpt1", *assay.small)
    assert (got.status, got.out) == (70, "")
    assert got.lines == ["assay: our fault: ZeroDivisionError: two lines (ASSAY_TRACEBACK=1 shows where)"]
    monkeypatch.setenv("ASSAY_TRACEBACK", "1")
    shown = assay("train", "gpt1", *assay.small)
    assert shown.status == 70
    assert "in broken" in shown.err
    assert shown.lines[-1] == got.lines[0]


def test_preparation_is_told_once_a_run_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(256) as progress:
        progress.message("encoding")
        assert capsys.readouterr().err == ""
        progress.run_started(0, 1, "gpt1-seed0", 10)
        assert capsys.readouterr().err.splitlines() == ["encoding", "gpt1-seed0 (1 of 1): 10 steps"]
        progress.message("floors and report")
        assert capsys.readouterr().err == "floors and report\n"


def test_preparation_that_takes_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(256) as progress:
        progress.message("encoding")
        progress.began -= HELD_SECONDS + 1
        progress.message("still encoding")
        assert capsys.readouterr().err == "encoding\nstill encoding\n"


def test_preparation_that_fails_says_nothing_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def prepare() -> None:
        with StudyProgress(256) as progress:
            progress.message("encoding")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        prepare()
    assert capsys.readouterr().err == ""


def test_a_warning_that_came_before_a_finished_study_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(256, single="gpt1") as progress:
        progress.message("no compiler")
    assert capsys.readouterr().err == "no compiler\n"


def test_too_little_memory_is_a_wrong_request(assay: Assay, monkeypatch: Patch) -> None:
    def large(*_: Any) -> None:
        raise MemoryError("Unable to allocate 2 EiB")

    monkeypatch.setattr(study_run, "train", large)
    got = assay("train", "gpt1", *assay.small)
    assert (got.status, got.out) == (2, "")
    start = "assay: not enough memory: Unable to allocate 2 EiB; "
    assert got.lines == [f"{start}smaller numbers of tokens or parameters would do"]


def test_a_run_that_continues_says_after_which_step(assay: Assay, monkeypatch: Patch) -> None:
    command = ["train", "gpt1", *assay.small, "--set", "training.checkpoint_interval=1", "--out", "out"]
    monkeypatch.setattr(checkpoint, "save_file", after(2, save_file, full_in_safetensors))
    assert assay(*command).status == 2
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    again = assay(*command)
    assert again.status == 0
    assert "gpt1: continues after step 1 of 2" in again.lines
