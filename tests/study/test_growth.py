"""A study grows: what is finished stays, what is missing is done, and the end is as if all had been asked at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import RequestError
from assay.records import ArmAudit, RunRecord, StudyRecord
from assay.study.asked import StudyConfig
from assay.study.compare import Silent, compare
from assay.study.resolve import ResolvedArm, Study, resolve
from assay.training.loop import StepEvent
from study.made_up import Make, write_corpus

VOLATILE = {"seconds", "train_tokens_per_second", "peak_memory_bytes", "interruptions", "speed", "added", "when"}
TWO, THREE = ("gpt1", "rwkv6"), ("gpt1", "rwkv6", "mamba2")


class Crash(BaseException):
    """Stands for the death of the process: nothing catches it."""


class Dying(Silent):
    """Dies at the n-th step of the study."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self, name: str, event: StepEvent) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


def settled(value: Any) -> Any:
    """`value` without times, memory and the note of what was added, and without the sentences that say them."""
    if isinstance(value, dict):
        return {key: settled(one) for key, one in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [settled(one) for one in value if not (isinstance(one, str) and one.startswith("Speed"))]
    return value


def results(folder: Path) -> dict[str, Any]:
    """Everything that the study in `folder` came to, by file."""
    records = {
        str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("runs/*/record.json")
    }
    weights = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("model.safetensors")}
    return {"study": settled(json.loads((folder / "study.json").read_text())), **settled(records), **weights}


def times(folder: Path) -> dict[str, int]:
    """When each file of the finished runs was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("runs/**/*") if path.is_file()}


@pytest.fixture(autouse=True)
def _no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing figures takes longer than the runs: one test looks at the page."""
    if "page" not in request.node.name:
        monkeypatch.setattr("assay.study.conclude.write_report", lambda *_: None)


@pytest.fixture(scope="module")
def _once() -> dict[str, Path]:
    return {}


@pytest.fixture
def at_once(make: Make, _once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study, asked for at once; shared by the tests of a worker."""
    if "folder" not in _once:
        _once["folder"] = tmp_path_factory.mktemp("at-once") / "out"
        compare(make(THREE, (0, 1)), _once["folder"])
    return _once["folder"]


@pytest.fixture
def make(make: Make) -> Make:
    """Studies whose speed is not measured, which takes longer than their runs."""

    def build(*arguments: Any, **sections: Any) -> StudyConfig:
        return make(*arguments, **{"measurements": [], **sections})

    return build


def without_the_note(found: dict[str, Any]) -> dict[str, Any]:
    """The results without the sentences that say that verdicts are nominal."""
    study = dict(found["study"])
    study["headline"] = [line for line in study["headline"] if "after the first look" not in line]
    study["pairs"] = [{**pair, "nominal": None, "sentence": ""} for pair in study["pairs"]]
    return {**found, "study": study}


def test_more_seeds_and_an_arm_end_as_if_asked_at_once(make: Make, at_once: Path, tmp_path: Path) -> None:
    compare(make(TWO, (0,)), tmp_path / "out")
    before = times(tmp_path / "out")
    record = compare(make(THREE, (0, 1)), tmp_path / "out")
    after = times(tmp_path / "out")
    assert before.items() <= after.items(), "finished runs are untouched"
    assert without_the_note(results(tmp_path / "out")) == without_the_note(results(at_once))
    (added,) = record.added
    assert (added.arms, added.seeds, added.looks) == (["mamba2"], [1], 1)
    assert any("after the first look" in line and "mamba2" in line for line in record.headline)
    assert all(pair.nominal for pair in record.pairs)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 9, 20])
def test_interrupted_growth_ends_in_the_same_bytes(at: int, make: Make, at_once: Path, tmp_path: Path) -> None:
    compare(make(TWO, (0,)), tmp_path / "out")
    with pytest.raises(Crash):
        compare(make(THREE, (0, 1)), tmp_path / "out", Dying(at))
    half = StudyRecord.read(tmp_path / "out" / "study.json")
    assert [arm.seeds for arm in half.arms] == [[0], [0]], "the last conclusion stands until there is another"
    compare(make(THREE, (0, 1)), tmp_path / "out")
    assert without_the_note(results(tmp_path / "out")) == without_the_note(results(at_once))


def test_what_is_added_before_any_look_is_not_nominal(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Crash):
        compare(make(TWO, (0,)), tmp_path / "out", Dying(3))
    record = compare(make(TWO, (0, 1)), tmp_path / "out")
    assert [addition.looks for addition in record.added] == [0]
    assert not any(pair.nominal for pair in record.pairs)


def test_asking_for_less_shows_all_and_says_so(make: Make, at_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in at_once.rglob("*") if path.is_file()}
    record = compare(make(("rwkv6",), (1,)), at_once)
    assert record == StudyRecord.read(at_once / "study.json")
    more = f"{at_once} holds more than was asked for, and all of it is shown: gpt1, mamba2, seed 0"
    again = f"{at_once}: finished before; shown again, nothing is trained"
    assert capsys.readouterr().err == f"{more}\n{again}\n"
    assert before == {path: path.stat().st_mtime_ns for path in at_once.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": {"tokens": 256}}, "training.tokens is 3072 there and 256 now"),
        ({"training": {"context": 16}}, "training.context is 32 there and 16 now"),
        ({"evaluation": {"split": "validation"}}, "evaluation.split is test there and validation now"),
        ({"data": {"tokenizer": "bpe:300"}}, "data.tokenizer is bytes there and bpe:300 now"),
        ({"model": {"dropout": 0.1}}, "model.dropout is not set there and 0.1 now"),
        ({"match": "flops"}, r"match is blocks\+head there and flops now"),
        ({"rule": {"level": 0.9}}, "rule.level is 0.95 there and 0.9 now"),
        ({"execution": {"precision": "bfloat16"}}, "execution.precision is auto there and bfloat16 now"),
        ({"tuning": {"learning_rates": [0.1, 0.2]}}, r"tuning.learning_rates is not set there and \[0.1, 0.2\] now"),
    ],
)
def test_a_changed_protocol_is_one_line(changes: dict[str, Any], says: str, make: Make, at_once: Path) -> None:
    with pytest.raises(RequestError, match=f"^--out .*: {says}; a new folder"):
        compare(make(THREE, (0, 1), **changes), at_once)


def test_an_arm_of_a_known_name_cannot_change(make: Make, at_once: Path) -> None:
    config = make(THREE, (0, 1))
    changed = [arm.model_copy(update={"training": {"learning_rate": 0.5}}) for arm in config.arms]
    with pytest.raises(RequestError, match=r"arm gpt1 has training.learning_rate not set .* and 0.5 now; another"):
        compare(config.model_copy(update={"arms": changed}), at_once)


def test_another_text_under_the_same_name_is_refused_before_training(make: Make, tmp_path: Path) -> None:
    text = write_corpus(tmp_path / "text")
    asked = make(("gpt1",), (0,), data={"corpus": f"text:{text}"})
    compare(asked, tmp_path / "out")
    (text / "000.txt").write_text("something else " * 30)
    with pytest.raises(RequestError, match=r"--corpus text:.*: reads as .* now, and was .* when the study began"):
        compare(asked.model_copy(update={"seeds": [0, 1]}), tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_a_measurement_is_added_and_no_run_repeated(make: Make, tmp_path: Path) -> None:
    record = compare(make(TWO, (0,)), tmp_path / "out")
    assert all(arm.columns == [] for arm in record.arms)
    before = times(tmp_path / "out")
    record = compare(make(TWO, (0,), measurements=["speed", "memory"]), tmp_path / "out")
    assert all({column.measurement for column in arm.columns} == {"speed", "recall"} for arm in record.arms)
    after = times(tmp_path / "out")
    kept = {path: at for path, at in before.items() if not str(path).endswith("config.yaml")}
    assert kept.items() <= after.items()
    assert {Path(path).name for path in after.keys() - before.keys()} <= {"recall.json"}
    assert [addition.measurements for addition in record.added] == [["speed", "recall"]]
    assert compare(make(TWO, (0,), measurements=["memory"]), tmp_path / "out") == record, "nothing is left to do"


def test_a_grid_grows_by_points(make: Make, tmp_path: Path) -> None:
    one = compare(make(("gpt1",), (0,), tuning={"learning_rates": [0.001, 0.003]}), tmp_path / "out")
    assert {arm.label: arm.learning_rate for arm in one.arms} == {"gpt1@lr=0.001": 0.001, "gpt1@lr=0.003": 0.003}
    more = compare(make(("gpt1",), (0,), tuning={"learning_rates": [0.003, 0.01]}), tmp_path / "out")
    assert [arm.label for arm in more.arms if arm.selected] == [
        min(more.arms, key=lambda arm: arm.validation_nats or 9).label
    ]
    assert {arm.learning_rate for arm in more.arms} == {0.001, 0.003, 0.01}
    assert [addition.arms for addition in more.added] == [["gpt1@lr=0.01"]]


def test_runs_of_another_assay_are_not_mixed_with_new_ones(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(make(TWO, (0,)), tmp_path / "out")
    monkeypatch.setattr("assay.study.compare.assay_version", lambda: "9.9.9 (000000000000)")
    assert compare(make(TWO, (0,)), tmp_path / "out").arms, "what is finished is shown"
    with pytest.raises(RequestError, match=r"gpt1-seed0 was made by assay .* and this is 9.9.9 .*a new folder"):
        compare(make(TWO, (0, 1)), tmp_path / "out")


@pytest.mark.parametrize("dies", [False, True])
def test_changed_code_that_no_plugin_holds_is_refused(
    dies: bool, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package, or the script that calls assay, was edited between two looks."""
    source = {"caller study.py": "a" * 64}
    for user in ("resolve", "sources"):
        monkeypatch.setattr(f"assay.study.{user}.arm_plugins", lambda *_: dict(source))
    monkeypatch.setattr("assay.study.subject.run.model_plugins", lambda *_: dict(source))
    if dies:
        with pytest.raises(Crash):
            compare(make(("gpt1",), (0,)), tmp_path / "out", Dying(5))
    else:
        compare(make(("gpt1",), (0,)), tmp_path / "out")
    source["caller study.py"] = "b" * 64
    since = "step 5 of gpt1-seed0" if dies else "the end of gpt1-seed0"
    for seeds in ((0,), (0, 1)):
        with pytest.raises(RequestError, match=f"caller study.py changed since {since}; a new folder"):
            compare(make(("gpt1",), seeds), tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_two_equal_arms_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"arms a and b: equal in everything .* NAME=gpt1:replicate=1"):
        compare(make(("a=gpt1", "b=gpt1:lr=3e-3"), (0,)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_placebo_differs_on_the_same_data_and_the_page_says_so(make: Make, tmp_path: Path) -> None:
    record = compare(make(("a=gpt1", "b=gpt1:replicate=1", "slow=gpt1:lr=1e-4"), (0, 1)), tmp_path / "out")
    assert record.chains_equal
    assert len({arm.data_chain for arm in record.arms}) == 1
    scores = {arm.label: arm.test.nats_per_token.mean for arm in record.arms if arm.test is not None}
    assert len(set(scores.values())) == 3
    runs = [RunRecord.read(path) for path in (tmp_path / "out").glob("runs/*/record.json")]
    assert {(run.label, run.seed, run.replicate, run.spec["training"]["learning_rate"]) for run in runs} == {
        (label, seed, int(label == "b"), 1e-4 if label == "slow" else 3e-3)
        for label in ("a", "b", "slow")
        for seed in (0, 1)
    }
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(f">{label}<small>" in page for label in ("a", "b", "slow"))
    assert "a placebo" in page


def test_every_run_says_what_it_was(at_once: Path) -> None:
    """The record alone is enough: label, spec, plan, environment; the folder's name is read by nobody."""
    for path in at_once.glob("runs/*/record.json"):
        record = RunRecord.read(path)
        assert record.spec["seed"] == record.seed
        assert record.spec["model"] == record.dimensions
        assert record.spec["corpus_digest"] == record.corpus_digest
        assert record.plan["threads"] == 1
        assert record.environment["assay"].startswith("0.1.0 (")
        assert path.parent.name == f"{record.label}-seed{record.seed}-{record.spec_digest[:8]}"


@pytest.mark.slow  # threads that wait for each other on a busy machine take processor time too
def test_growth_says_where_threads_are_not_those_of_a_study_asked_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On many cores a study of few runs begins with all of them, and its plan stays."""
    monkeypatch.setattr("assay.study.machine.available_cores", lambda: 2)
    free = {"execution": {"threads": None}}
    compare(make(("gpt1",), (0,), **free), tmp_path / "out")
    record = compare(make(("gpt1",), (0, 1), **free), tmp_path / "out")
    assert record.environment["threads"] == "2"
    assert "threads stay 2 a run, as when it began; asked for at once they would be 1" in capsys.readouterr().err


def test_a_study_that_another_process_changed_meanwhile_is_left_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands begin together in one new folder; the second is the first to finish."""
    real = resolve

    def slow(config: StudyConfig, tell: Callable[[str], None]) -> Study:
        study = real(config, tell)
        if config.seeds == [0]:
            compare(make(("gpt1",), (5,)), tmp_path / "out")
        return study

    monkeypatch.setattr("assay.study.compare.resolve", slow)
    with pytest.raises(RequestError, match="another process has just changed it; give the same command again"):
        compare(make(("gpt1",), (0,)), tmp_path / "out")
    record = StudyRecord.read(tmp_path / "out" / "study.json")
    assert [arm.seeds for arm in record.arms] == [[5]]
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_an_arm_that_cannot_be_audited_is_not_taken_in(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(make(("gpt1",), (0,)), tmp_path / "out")
    with monkeypatch.context() as patch:

        def refuse(_: Study, arm: ResolvedArm, __: int) -> ArmAudit:
            raise RequestError(f"{arm.label}: cannot be audited")

        patch.setattr("assay.study.compare.audit_fresh", refuse)
        with pytest.raises(RequestError, match="cannot be audited"):
            compare(make(TWO, (0,)), tmp_path / "out")
    assert [arm.label for arm in compare(make(("gpt1",), (0, 1)), tmp_path / "out").arms] == ["gpt1"]


def test_one_point_of_a_grid_asks_for_less(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(make(("gpt1",), (0,), tuning={"learning_rates": [0.001, 0.01]}), tmp_path / "out")
    record = compare(make(("gpt1",), (0,), training={"learning_rate": 0.001}), tmp_path / "out")
    assert {arm.learning_rate for arm in record.arms} == {0.001, 0.01}
    assert "all of it is shown: gpt1@lr=0.01" in capsys.readouterr().err
    with pytest.raises(RequestError, match=r"learning_rate is 0.003 there and 0.5 now"):
        compare(make(("gpt1",), (0,), training={"learning_rate": 0.5}), tmp_path / "out")


def test_a_finished_study_is_not_shown_for_another_text(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_corpus(tmp_path / "text")
    asked = make(("gpt1",), (0,), data={"corpus": f"text:{text}"})
    record = compare(asked, tmp_path / "out")
    kept = (text / "000.txt").read_text()
    (text / "000.txt").write_text("something else " * 30)
    with pytest.raises(RequestError, match=r"reads as .* now, and was .* when the study began"):
        compare(asked, tmp_path / "out")
    (text / "000.txt").write_text(kept)
    assert compare(asked, tmp_path / "out") == record
    for path in text.iterdir():
        path.unlink()
    assert compare(asked, tmp_path / "out") == record
    assert "shown as it was, as its text cannot be read again" in capsys.readouterr().err
