"""A study end to end: what it writes, that it is read and not repeated, and what it refuses."""

import hashlib
import json
import math
from pathlib import Path

import pytest

from assay.api import measure
from assay.errors import RequestError
from assay.records import MeasuredRun, RunRecord, StudyRecord
from assay.study.compare import Silent, compare
from assay.study.folder import lock
from assay.training.loop import StepEvent
from study.made_up import Make

ARMS = ("gpt1", "rwkv6", "mamba2")


@pytest.fixture(scope="module")
def _once() -> dict[str, Path]:
    return {}


@pytest.fixture
def finished(make: Make, _once: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished study of three arms and two seeds, shared by the tests of a worker."""
    if "folder" not in _once:
        folder = tmp_path_factory.mktemp("study") / "out"
        compare(make(ARMS, (0, 1)), folder)
        _once["folder"] = folder
    return _once["folder"]


def test_study_json_has_the_promised_fields(finished: Path) -> None:
    study = json.loads((finished / "study.json").read_text())
    for arm in study["arms"]:
        assert arm["parameters"].keys() >= {"total", "embedding", "non_embedding"}
        assert arm["flops_per_token"] > 0
        assert arm["state_bytes"] > 0
        shown = {(column["measurement"], column["key"]): column for column in arm["columns"]}
        speed = shown["speed", "speed"]
        assert speed["low"] <= speed["value"] <= speed["high"]
        assert {name for name, _ in shown} == {"signals", "recall", "output_health", "speed"}
        assert arm["diverged"] == 0
        for score in ("nats_per_token", "perplexity", "bits_per_byte"):
            interval = arm["test"][score]
            assert interval["low"] < interval["mean"] < interval["high"]
        assert math.exp(arm["test"]["nats_per_token"]["mean"]) == pytest.approx(arm["test"]["perplexity"]["mean"])
    assert {(p["a"], p["b"]) for p in study["pairs"]} <= {(a, b) for a in ARMS for b in ARMS}
    assert len(study["pairs"]) == 3
    assert study["floors"].keys() == {"unigram", "ngram"}
    # The text is a chain of words: three letters of context say much more than none.
    assert study["floors"]["ngram"]["nats_per_token"] < study["floors"]["unigram"]["nats_per_token"] - 0.5


def test_sizes_set_by_hand_forbid_a_ranking(finished: Path) -> None:
    study = StudyRecord.read(finished / "study.json")
    assert not study.ranked
    assert study.not_ranked_because is not None
    assert all(arm.rank is None for arm in study.arms)


def test_all_arms_saw_the_same_batches(finished: Path) -> None:
    study = StudyRecord.read(finished / "study.json")
    assert study.chains_equal
    assert len({arm.data_chain for arm in study.arms}) == 1
    runs = [RunRecord.read(path) for path in finished.glob("runs/*/record.json")]
    assert len(runs) == 6
    assert len({run.data_chain for run in runs}) == 2, "one chain a seed"


def test_every_run_ran_in_its_fast_form_and_learned(finished: Path) -> None:
    for path in finished.glob("runs/*/record.json"):
        measured = MeasuredRun.read(path.parent)
        run, scores = measured.record, measured.scores
        assert all(forms == ["chunked"] for forms in run.forms.values())
        assert run.forms
        assert run.training_curve[-1].nats_per_token < run.training_curve[0].nats_per_token - 0.3
        assert run.validation_curve[-1].step == run.steps == 12
        assert scores is not None
        assert scores.bits_per_byte is not None
        assert sum(scores.document_nats) == pytest.approx(scores.nats_per_token * scores.tokens)


def test_a_finished_study_is_read_and_not_repeated(make: Make, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    record = compare(make(ARMS, (0, 1)), finished)
    assert record == StudyRecord.read(finished / "study.json")
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def test_another_protocol_in_the_folder_is_refused(make: Make, finished: Path) -> None:
    with pytest.raises(RequestError, match=r"training.tokens is 3072 there and 512 now; a new folder"):
        compare(make(ARMS, (0, 1), training={"tokens": 512}), finished)


def test_an_occupied_folder_is_refused_and_left_alone(make: Make, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RequestError, match="other files"):
        compare(make(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_process_is_refused(make: Make, tmp_path: Path) -> None:
    class Intruder(Silent):
        def step(self, name: str, event: StepEvent) -> None:
            if event.step == 3:
                with pytest.raises(RequestError, match="another process"):
                    compare(make(measurements=[]), tmp_path / "out")

    compare(make(measurements=[]), tmp_path / "out", Intruder())
    lock(tmp_path / "out").release()


def test_a_diverged_seed_is_reported_and_not_ranked(make: Make, tmp_path: Path) -> None:
    wild = {"learning_rate": 1e4, "clip_norm": None, "warmup_share": 0.0, "schedule": "constant", "tokens": 40 * 256}
    study = compare(make(("gpt1",), training=wild), tmp_path / "out")
    assert study.arms[0].diverged == 1
    assert study.arms[0].rank is None
    assert study.arms[0].test is None
    run = RunRecord.read(next((tmp_path / "out").glob("runs/*/record.json")))
    assert run.status == "diverged"
    assert run.steps < 40
    (looked,) = measure(tmp_path / "out", only="state")
    (result,) = [results["state"] for results in looked.results.values() if "state" in results]
    assert (result.values["trained"], result.measured.at) == (None, ["initial"]), "its weights are nobody's"
    assert any("diverged, so that its untrained weights alone are measured" in note for note in looked.notes)


def test_the_citation_is_the_hash_of_the_record(finished: Path) -> None:
    digest = hashlib.sha256((finished / "study.json").read_bytes()).hexdigest()
    assert digest in (finished / "report.html").read_text()


def test_the_page_and_its_figures_are_there(finished: Path) -> None:
    assert (finished / "report.html").stat().st_size > 10_000
    figures = list((finished / "report").glob("*.svg"))
    assert figures
    assert all(figure.with_suffix(".csv").exists() for figure in figures)


def test_nothing_is_created_for_a_study_that_cannot_work(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"gpt1 has 16 positions"):
        compare(make(model={"gpt1": {"n_heads": 2, "max_positions": 16}}), tmp_path / "out")
    with pytest.raises(RequestError, match=r"--context 4096: the validation split"):
        compare(make(training={"context": 4096, "batch_tokens": 4096}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_dimension_of_one_arm_only_is_refused_for_all(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"mamba2 has none; --set model.gpt1.n_heads"):
        compare(make(("gpt1", "mamba2"), model={"n_heads": 4}), tmp_path / "out")
    with pytest.raises(RequestError, match=r"model.n_head: unknown key for gpt1; did you mean 'n_heads'"):
        compare(make(model={"n_head": 4}), tmp_path / "out")
