"""Peak memory sees an allocation that is gone again, and says so where it cannot see."""

import sys
from pathlib import Path

import pytest
import torch

from assay.training import memory
from assay.training.memory import PeakMemory

MB = 1_000_000


@pytest.fixture
def _measurable() -> None:
    if not PeakMemory("cpu").measurable:
        pytest.skip("this system cannot reset the high-water mark of a process")


@pytest.mark.usefixtures("_measurable")
def test_an_allocation_that_is_gone_still_shows() -> None:
    before = PeakMemory("cpu").bytes()
    peak = PeakMemory("cpu")
    torch.ones(50 * MB).sum()
    seen = peak.bytes()
    assert before is not None
    assert seen is not None
    assert 190 * MB < seen - before < 260 * MB


@pytest.mark.usefixtures("_measurable")
def test_measurements_do_not_add_up() -> None:
    """The mark is reset: what came before a measurement is not in it."""
    first = PeakMemory("cpu")
    torch.ones(30 * MB).sum()
    high = first.bytes()
    low = PeakMemory("cpu").bytes()
    assert high is not None
    assert low is not None
    assert low < high - 80 * MB


def test_not_measured_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    assert PeakMemory("cpu").bytes() is None
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert PeakMemory("cpu").bytes() is None
    monkeypatch.undo()
    assert PeakMemory("mps").bytes() is None
