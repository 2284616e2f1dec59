"""`--quick` and `--at`: what counts as missing, what is measured again, and what an interruption leaves."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import assay
from assay.analysis.columns import mixed
from assay.errors import RequestError
from assay.evaluation.ablation import AblationProtocol
from assay.evaluation.measurement import MEASUREMENTS, Given, Reader
from assay.evaluation.measurements import contribution
from assay.evaluation.measurements.contribution import Contribution, MeasureContribution
from assay.records import MeasuredRun, MeasurementResult
from assay.study.measure.how import How, parse_moments
from assay.study.measure.runs import Looked, look_at_run
from assay.study.run import train
from study.made_up import Make


@pytest.fixture
def folder(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run, and protocols that take no time."""
    monkeypatch.setattr(contribution, "WHOLE", AblationProtocol(4, 8, ("zero", "mean"), ("mixer",)))
    monkeypatch.setattr(contribution, "QUICK", AblationProtocol(2, 8, ("mean",), ("mixer",)))
    train(make(measurements=[]), tmp_path / "run", lambda _: None, [])
    return tmp_path / "run"


def look(folder: Path, how: How) -> Looked:
    return look_at_run(folder, ["contribution"], lambda _: None, how)


def result(folder: Path) -> MeasurementResult:
    return MeasurementResult.read(folder / "measurements" / "contribution.json")


def test_a_quick_result_says_so_and_gives_way_to_a_whole_one(folder: Path) -> None:
    quick = look(folder, How(quick=True))
    assert quick.added == ["contribution"]
    assert any("was measured with --quick" in line for line in quick.sentences)
    of_quick = result(folder)
    assert (of_quick.measured.quick, of_quick.measured.at) == (True, ["initial", "trained"])
    assert look(folder, How(quick=True)).added == []
    whole = look(folder, How())
    assert whole.added == ["contribution"]
    assert not any("--quick" in line for line in whole.sentences)
    assert (result(folder).measured.quick, result(folder).values["trained"]["windows"]) == (False, 4)
    assert look(folder, How(quick=True)).added == [], "a whole result is as good as a quick one"
    both = mixed([{"contribution": of_quick}, {"contribution": result(folder)}])
    assert both == {"contribution": ["1", "1 with --quick"]}, "they do not stand beside each other"


def test_weights_that_were_left_out_are_measured_when_they_are_asked_for(folder: Path) -> None:
    look(folder, How(at=parse_moments(["trained"])))
    assert (result(folder).values["initial"], result(folder).measured.at) == (None, ["trained"])
    assert look(folder, How(at=parse_moments(["trained"]))).added == []
    assert look(folder, How(at=parse_moments(["init"]))).added == ["contribution"]
    values = Contribution.model_validate(result(folder).values)
    assert values.initial is not None
    assert values.trained is not None, "what was there stays"
    assert look(folder, How()).added == []


def test_what_needs_weights_that_are_left_out_is_said(folder: Path) -> None:
    looked = look_at_run(folder, ["context"], lambda _: None, How(at=parse_moments(["init"])))
    assert looked.added == []
    assert looked.notes == ["context: needs trained weights; --at leaves them out"]
    with pytest.raises(RequestError, match="--at x: no such weights; init or trained would do"):
        parse_moments(["x"])


def test_an_interruption_keeps_what_is_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(MeasureContribution):
        name = "interrupted"

        def measure(self, given: Given, readers: Sequence[Reader]) -> Contribution:
            raise KeyboardInterrupt

    monkeypatch.setattr(MEASUREMENTS, "_items", dict(MEASUREMENTS._items))
    MEASUREMENTS.register("interrupted", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        look_at_run(folder, ["contribution", "interrupted"], lambda _: None, How(quick=True))
    assert set(MeasuredRun.read(folder).results) == {"likelihood", "contribution"}
    assert look(folder, How(quick=True)).added == []


def test_an_untrained_arm_is_measured_at_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contribution, "QUICK", AblationProtocol(2, 8, ("mean",), ("mixer",)))
    settings = {"data": {"corpus": f"text:{corpus}", "tokenizer": "bytes"}, "training": {"context": 16}}
    (looked,) = assay.measure(
        "gpt1:d_model=32,n_layers=1,n_heads=2", only=["contribution", "context"], quick=True, at=["init"], **settings
    )
    assert looked.added == ["contribution"]
    assert looked.notes == ["context: needs trained weights; --at leaves them out"]
