"""What is measured later reaches the study: its table, its page and the notes of what was added, and loses nothing."""

import shutil
from pathlib import Path

import pytest

from assay.config import read_yaml
from assay.evaluation.measurement import MEASUREMENTS
from assay.plugins.origins import Origin
from assay.records import StudyRecord
from assay.study.asked import StudyConfig
from assay.study.compare import Silent, compare
from assay.study.measure.refresh import plugins_of
from assay.study.measure.runs import look_at_run, look_at_study
from assay.training.loop import StepEvent
from study.made_up import Make

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Crash(BaseException):
    """Stands for the death of the process: nothing catches it."""


class Dying(Silent):
    """Dies at the third step."""

    def step(self, name: str, event: StepEvent) -> None:
        if event.step == 3:
            raise Crash


def silent(_: str) -> None:
    pass


def stored(folder: Path) -> StudyConfig:
    return StudyConfig.parse(read_yaml(folder / "config.yaml"))


def of_study(folder: Path) -> StudyRecord:
    return StudyRecord.read(folder / "study.json")


def test_measuring_keeps_the_note_of_a_growth_that_was_interrupted(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare(make(measurements=["output_health"]), out, workers=1)
    with pytest.raises(Crash):
        compare(make(measurements=["output_health"], seeds=(0, 1)), out, Dying(), workers=1)
    (begun,) = stored(out).added
    assert begun.seeds == [1]
    notes = look_at_study(out, ["recall"], silent).notes
    assert sum("-seed1-" in note and note.endswith("is not trained to its end, and left out") for note in notes) == 1
    first, second = stored(out).added
    assert (first, second.measurements) == (begun, ["recall"])
    assert of_study(out).added == [second], "the seed is not in the study yet"
    grown = compare(make(measurements=["output_health"], seeds=(0, 1)), out, workers=1)
    assert grown.added == [begun, second]
    assert {of.name for of in grown.measured} == {"likelihood", "output_health", "recall"}


def test_what_a_run_was_measured_by_reaches_the_study(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare(make(measurements=[]), out, workers=1)
    before = (out / "study.json").read_bytes()
    assert look_at_study(out, ["likelihood"], silent).added == []
    assert (out / "study.json").read_bytes() == before, "nothing new: nothing is written"
    (run,) = (out / "runs").iterdir()
    assert look_at_run(run, ["recall"], silent).added == ["recall"]
    assert look_at_study(out, ["recall"], silent).added == []
    record = of_study(out)
    assert [one.measurements for one in record.added] == [["recall"]]
    assert record.added == stored(out).added
    assert {column.measurement for arm in record.arms for column in arm.columns} == {"recall"}
    assert "recall" in (out / "report.html").read_text(encoding="utf-8").lower()
    before = (out / "study.json").read_bytes()
    look_at_study(out, ["recall"], silent)
    assert (out / "study.json").read_bytes() == before


def test_a_refresh_that_died_halfway_is_finished_by_the_next(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """config.yaml knows of the addition and study.json does not: the same entry comes there, and no second one."""
    out = tmp_path / "out"
    compare(make(measurements=[]), out, workers=1)

    def dies(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("assay.study.measure.refresh.write_report", dies)
        with pytest.raises(Crash):
            look_at_study(out, ["recall"], silent)
    look_at_study(out, ["recall"], silent)
    assert of_study(out).added == stored(out).added
    assert [one.measurements for one in stored(out).added] == [["recall"]]


@pytest.mark.parametrize("version", ["schema1", "schema2"])
def test_older_studies_are_left_as_they_are_where_nothing_is_new(tmp_path: Path, version: str) -> None:
    shutil.copytree(FIXTURES / version / "study", tmp_path / "study")
    before = (tmp_path / "study" / "study.json").read_bytes()
    look_at_study(tmp_path / "study", ["likelihood"], silent)
    assert (tmp_path / "study" / "study.json").read_bytes() == before


def test_a_plug_in_of_a_listed_name_elsewhere_is_another_file(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / folder / "mine.py" for folder in ("one", "other")]
    origins = {str(at): Origin("plug-in", "mine.py", digest=str(at), path=path) for at, path in enumerate(files)}
    monkeypatch.setattr(MEASUREMENTS, "origin", origins.__getitem__)
    listed = make(plugins=[{"path": str(files[0])}])
    assert [plugin.path for plugin in plugins_of(listed, ["0", "1"])] == [str(files[1])]
