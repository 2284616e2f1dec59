"""Measuring in a run: the course of training is followed, groups are named, older versions give the same numbers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import assay
from assay.analysis.comparison import compare_runs
from assay.analysis.ranking.entrants import Point
from assay.config import read_yaml
from assay.errors import RequestError
from assay.evaluation.measurement import MEASUREMENTS, Given, Measurement, Reader
from assay.evaluation.results import as_result
from assay.model.lm import LanguageModel
from assay.records import Column, MeasuredRun, Record, StudyRecord, read_study_results
from assay.study.asked import StudyConfig
from assay.study.compare import compare
from assay.study.folder import lock, open_run
from assay.study.measure.runs import look_at_run
from assay.study.older import UNASKED
from assay.study.resolve import resolve
from assay.study.run import carry_out, train
from assay.training.loop import ModelObserver, StepEvent
from study.made_up import Make

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Norms(Record):
    """The norm of the embedding at every step that was seen."""

    by_step: dict[int, float]


class Watch:
    """Notes the norm every fourth step."""

    name, interval = "norms", 4

    def observe(self, model: LanguageModel, step: int) -> dict[str, float]:
        return {"norm": float(model.embedding.tokens.norm())}


class MeasureNorms(Measurement[Norms]):
    """A fake that needs the course."""

    name = "norms"
    question = "How does the embedding grow?"
    unit = "norm"
    group = "character"
    needs = frozenset({"course"})
    record = Norms

    def observer(self, steps: int) -> ModelObserver:
        assert steps == 12
        return Watch()

    def measure(self, given: Given, readers: Sequence[Reader]) -> Norms:
        return Norms(by_step={row["step"]: row["norm"] for row in given.courses[self.name]})

    def columns(self, values: Norms) -> list[Column]:
        return [Column(key="last", head="norm", format="count", value=values.by_step[max(values.by_step)])]


@pytest.fixture
def norms(monkeypatch: pytest.MonkeyPatch) -> MeasureNorms:
    MEASUREMENTS.names()
    monkeypatch.setattr(MEASUREMENTS, "_items", dict(MEASUREMENTS._items))
    item = MeasureNorms()
    MEASUREMENTS.register(item.name, item)
    return item


def test_the_course_is_followed_and_later_it_cannot_be(make: Make, tmp_path: Path, norms: MeasureNorms) -> None:
    run = train(make(measurements=["norms"]), tmp_path / "run", lambda _: None, [])
    assert [int(step) for step in run.results["norms"].values["by_step"]] == [4, 8, 12]
    plain = train(make(measurements=[]), tmp_path / "plain", lambda _: None, [])
    assert set(plain.results) == {"likelihood"}
    assert plain.results["likelihood"].values == run.results["likelihood"].values, "looking on moves nothing"
    looked = look_at_run(tmp_path / "plain", [norms.name], lambda _: None)
    (note,) = looked.notes
    assert note.startswith("norms: needs the course of training, which only the training itself shows;")
    again = look_at_run(tmp_path / "run", [norms.name], lambda _: None)
    assert (again.notes, again.added, len(again.rows[0].columns)) == ([], [], 1)
    (more,) = assay.measure(tmp_path / "plain", only=["memory"])
    assert (more.added, [column.key for column in more.rows[0].columns]) == (["recall"], ["recall", "other"])


def test_the_course_survives_an_interruption_and_its_result_a_loss(
    make: Make, tmp_path: Path, norms: MeasureNorms
) -> None:
    """What observers saw lies in the run's folder: an interrupted run has all of it, and it can be measured again."""

    class DeathError(Exception):
        pass

    def dies(event: StepEvent) -> None:
        if event.step == 9:
            raise DeathError

    config = make(measurements=["norms"])
    whole = train(config, tmp_path / "whole", lambda _: None, [])
    with pytest.raises(DeathError):
        train(config, tmp_path / "cut", lambda _: None, [dies])
    cut = train(config, tmp_path / "cut", lambda _: None, [])
    assert cut.record.interruptions == 1
    assert cut.results["norms"].values == whole.results["norms"].values
    (tmp_path / "cut" / "measurements" / "norms.json").unlink()
    again = look_at_run(tmp_path / "cut", [norms.name], lambda _: None)
    (results,) = again.results.values()
    assert results["norms"].values == whole.results["norms"].values


@pytest.mark.usefixtures("norms")
def test_a_run_that_began_unobserved_does_not_go_on_observed(make: Make, tmp_path: Path) -> None:
    class DeathError(Exception):
        pass

    def dies(event: StepEvent) -> None:
        if event.step == 9:
            raise DeathError

    with pytest.raises(DeathError):
        train(make(measurements=[]), tmp_path / "run", lambda _: None, [dies])
    with pytest.raises(RequestError, match="norms needs the whole course of training, and the run began without it"):
        train(make(measurements=["norms"]), tmp_path / "run", lambda _: None, [])


def test_a_course_that_other_code_observed_is_not_measured(make: Make, tmp_path: Path, norms: MeasureNorms) -> None:
    train(make(measurements=["norms"]), tmp_path / "run", lambda _: None, [])
    (tmp_path / "run" / "measurements" / "norms.json").unlink()
    norms.version = 2  # type: ignore[misc]
    looked = look_at_run(tmp_path / "run", [norms.name], lambda _: None)
    assert (looked.added, looked.rows) == ([], [])
    (note,) = looked.notes
    assert "norms: the course of training was observed by" in note
    assert "version 1, and it is" in note


def test_an_observer_is_refused_before_training(
    make: Make, tmp_path: Path, norms: MeasureNorms, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (({"name": "norm"}, "is called 'norm'; 'norms' would do"), ({"interval": 0}, "has the interval 0;"))
    for change, says in wrong:
        with monkeypatch.context() as patch:
            patch.setattr(norms, "observer", lambda _, change=change: type("Watch", (Watch,), change)())
            with pytest.raises(RequestError, match=f"the observer of the measurement norms .*{says}"):
                train(make(measurements=["norms"]), tmp_path / "run", lambda _: None, [])
        assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_measurement_that_fails_keeps_the_run_and_the_others_and_can_be_asked_again(
    make: Make, tmp_path: Path, norms: MeasureNorms, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(norms, "measure", lambda *_: 1 / 0)
        with pytest.raises(RequestError, match=r"norms cannot be measured: .* ZeroDivisionError: division by zero"):
            train(make(measurements=["norms", "recall"]), out, lambda _: None, [])
        assert set(MeasuredRun.read(out).results) == {"likelihood", "recall"}
        with pytest.raises(RequestError, match="norms cannot be measured"):
            look_at_run(out, ["norms"], lambda _: None)
    assert look_at_run(out, ["norms"], lambda _: None).added == ["norms"]


def test_an_unknown_measurement_is_refused_before_training(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="--measure recal: no measurement and no group of them; did you mean 'recall'"
    ):
        train(make(measurements=["recal"]), tmp_path / "run", lambda _: None, [])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("version", ["schema1", "schema2"])
def test_older_studies_are_judged_again_with_the_same_numbers(version: str) -> None:
    folder = FIXTURES / version / "study"
    study = StudyRecord.read(folder / "study.json")
    runs = [MeasuredRun.read(path.parent) for path in sorted(folder.glob("runs/*/record.json"))]
    points = {arm.label: Point(arm.group, arm.size, arm.learning_rate) for arm in study.arms}
    match = study.match if version == "schema2" else "total"
    again = compare_runs(
        runs,
        study.protocol,
        study.corpus,
        {},  # an arm that does not beat the unigram floor had a rank then
        study.environment,
        match,
        study.audits,
        points=points,
        results=read_study_results(folder),
    )
    assert [(arm.label, arm.rank, arm.test) for arm in again.arms] == [
        (arm.label, arm.rank, arm.test) for arm in study.arms
    ]
    assert [pair.difference for pair in again.pairs] == [pair.difference for pair in study.pairs]
    for arm, old in zip(again.arms, study.arms, strict=True):
        found = {(column.measurement, column.key): column for column in arm.columns}
        for column in old.columns:
            assert found[column.measurement, column.key].value == pytest.approx(column.value)


@pytest.mark.parametrize("version", ["schema1", "schema2"])
def test_what_older_records_held_is_shown_as_today(version: str) -> None:
    """Until a measurement has another version, its own columns and figures are those that the old values get."""
    for result in MeasuredRun.read(FIXTURES / version / "run").results.values():
        item = MEASUREMENTS.get(result.measurement)
        if item.version != result.measurement_version:
            assert item.record.model_validate(result.values)  # still read
            continue
        today = as_result(item, item.record.model_validate(result.values), result.measured)
        for name in today.values.keys() - result.values.keys():
            assert today.values.pop(name) is None  # old values do not say
        assert today.model_copy(update={"code": result.code}) == result
    if version == "schema2":
        (speed,) = read_study_results(FIXTURES / version / "study").values()
        item = MEASUREMENTS.get("speed")
        today = as_result(item, item.record.model_validate(speed.values), speed.measured)
        for values in today.values["arms"].values():
            assert values.pop("compiled") is None  # old values do not say
        assert today.model_copy(update={"code": speed.code}) == speed


def test_what_follows_the_training_is_not_added_after_it(make: Make, tmp_path: Path, norms: MeasureNorms) -> None:
    compare(make(measurements=[]), tmp_path / "out")
    with pytest.raises(RequestError, match=r"norms needs the course of training, .*; a new folder would do"):
        compare(make(measurements=[norms.name]), tmp_path / "out")


def test_an_older_configuration_measures_what_it_measured() -> None:
    assert StudyConfig.parse({"version": 2, "measurements": ["speed"]}).measurements == [*UNASKED, "speed"]
    assert StudyConfig.parse({"version": 2}).measurements == StudyConfig.parse({}).measurements
    assert StudyConfig.parse({"measurements": ["speed"]}).measurements == ["speed"]


def test_a_run_that_another_process_works_on_keeps_its_configuration(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.study.run.PATIENCE_SECONDS", 0.1)
    out = tmp_path / "run"
    study = resolve(make(measurements=[]), lambda _: None)
    open_run(out, study.run_config(study.arms[0], 0))
    before = (out / "config.yaml").read_bytes()
    more = resolve(make(measurements=["recall"]), lambda _: None)
    with lock(out), pytest.raises(RequestError, match="another process works there"):
        carry_out(more, more.arms[0], 0, out)
    assert (out / "config.yaml").read_bytes() == before
    open_run(out, more.run_config(more.arms[0], 0))
    assert StudyConfig.parse(read_yaml(out / "config.yaml")).measurements == ["likelihood", "recall"]
