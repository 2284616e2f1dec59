"""Threads and compiling of a study follow from the sizes of its runs, by rules that are written down."""

import shutil

import pytest

from assay.model.plan import ExecutionConfig
from assay.study.machine import WORTH_COMPILING_FLOPS, compiles_at_once


@pytest.fixture
def _a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)


@pytest.mark.usefixtures("_a_compiler")
def test_long_runs_are_compiled_and_a_line_says_so() -> None:
    told: list[str] = []
    asked = ExecutionConfig()
    assert compiles_at_once(asked, "cpu", WORTH_COMPILING_FLOPS, told.append)
    assert [line.split(";")[1] for line in told] == [" execution.compile=false turns it off"]
    assert not compiles_at_once(asked, "cpu", 0.99 * WORTH_COMPILING_FLOPS, told.append)
    assert len(told) == 1


@pytest.mark.usefixtures("_a_compiler")
@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_is_left_to_the_plan(asked: bool) -> None:
    told: list[str] = []
    assert not compiles_at_once(ExecutionConfig(compile=asked), "cpu", 1e20, told.append)
    assert not told


def test_without_a_compiler_one_line_says_what_it_would_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    told: list[str] = []
    assert not compiles_at_once(ExecutionConfig(), "cpu", 1e20, told.append)
    (line,) = told
    assert line.startswith("execution.compile: no C++ compiler found; it would repay runs of at least 1.0e+20 FLOPs")
