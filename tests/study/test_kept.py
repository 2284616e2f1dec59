"""Untrained arms that were measured are not measured again, and an interruption costs the measurement it falls into."""

from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.measurements.signals import MeasureSignals
from assay.evaluation.measurements.state import MeasureState
from assay.study.arm import parse_arm
from assay.study.measure.how import How
from assay.study.measure.models import look_at_arm
from assay.study.measure.runs import Looked

NAMES = ["signals", "state"]
"""In the order in which they are measured."""


@pytest.fixture
def settings(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Data options, and a cache of this test's own."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    training = {"batch_tokens": 64, "tokens": 128, "context": 32, "validation_tokens": 512}
    return {
        "data": {"corpus": f"text:{corpus}", "tokenizer": "bytes"},
        "training": training,
        "evaluation": {"test_tokens": 512},
        "execution": {"threads": 1},
    }


def look(settings: dict[str, Any], arm: str = "gpt1:d_model=32,n_layers=1,n_heads=2", how: How | None = None) -> Looked:
    return look_at_arm(parse_arm(arm), NAMES, settings, lambda _: None, how or How())


def test_what_was_finished_before_an_interruption_is_there(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look({**settings, "seeds": [1]})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MeasureState, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            look(settings)
    with monkeypatch.context() as patch:
        patch.setattr(MeasureSignals, "measure", interrupted)
        found = look(settings)
    assert (whole.added, found.added) == (NAMES, ["state"])
    assert any("signals measured by an earlier call" in note for note in found.notes)
    again = look(settings)
    assert again.added == []
    assert again.results == found.results
    assert again.rows == found.rows
    (one,), (other,) = whole.results.values(), found.results.values()
    assert one["signals"].values != other["signals"].values


def test_what_moves_a_number_is_measured_anew(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = look(settings, how=How(quick=True))
    assert quick.added == NAMES
    assert look(settings).added == ["state"], "a smaller protocol does not stand for the whole one"
    assert look(settings, how=How(quick=True)).added == []
    others: list[dict[str, Any]] = [{"seeds": [3]}, {"evaluation": {"test_tokens": 512, "signal_windows": 2}}]
    others += [{"training": {**settings["training"], "context": 16}}, {"execution": {"threads": 2}}]
    for other in others:
        assert look({**settings, **other}).added == NAMES, other
    assert look(settings, "gpt1:d_model=32,n_layers=2,n_heads=2").added == NAMES
    monkeypatch.setattr(MeasureSignals, "version", MeasureSignals.version + 1)
    assert look(settings).added == ["signals"]


def test_a_broken_file_is_as_none(settings: dict[str, Any], tmp_path: Path) -> None:
    look(settings)
    (path,) = (tmp_path / "cache").glob("measured/*/measurements/state.json")
    path.write_text("{")
    assert look(settings).added == NAMES
    assert look(settings).added == []
