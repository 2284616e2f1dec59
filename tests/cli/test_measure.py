"""`assay measure`: a measurement from a file is everywhere without an edit, and a later one gives the same bytes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.inference.protocol import QUICK
from assay.evaluation.measurement import MEASUREMENTS
from assay.records import MeasuredRun, MeasurementResult, Results, StudyRecord
from cli.command import Assay

TWO = ("compare", "gpt1", "mamba2", "--seeds", "2", "--size", "30k")
"""Two arms and two seeds."""


@pytest.fixture(autouse=True)
def _registry_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    MEASUREMENTS.names()
    monkeypatch.setattr(MEASUREMENTS, "_items", dict(MEASUREMENTS._items))


@pytest.fixture
def plugin(assay: Assay) -> str:
    """The example of CONTRIBUTING.md as a file."""
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^<!-- example: measurement -->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (assay.cwd / "accuracy.py").write_text(source)
    return "accuracy.py"


def json_of(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def values(folder: Path, name: str) -> dict[str, bytes]:
    """Run -> the values of its result, as they are written."""
    found = {path.parent.parent.name: path for path in folder.glob(f"runs/*/measurements/{name}.json")}
    return {run: json.dumps(json.loads(path.read_text())["values"]).encode() for run, path in found.items()}


def listing(*names: str) -> list[str]:
    """What is measured, in place of the usual."""
    return ["--set", f"measurements=[{','.join(names)}]"]


def test_a_measurement_of_a_file_is_in_table_page_and_json(assay: Assay, plugin: str) -> None:
    command = ["compare", "gpt1", "--seeds", "2", *assay.small, "--out", "study", "--plugin", plugin]
    done = assay(*command, *listing("accuracy"), "--json")
    assert done.status == 0, done.err
    (arm,) = json_of(done.out)["arms"]
    (column,) = arm["columns"]
    assert (column["measurement"], column["head"], column["format"], column["seeds"]) == (
        ("accuracy", "accuracy", "percent", 2)
    )
    page = (assay.cwd / "study" / "report.html").read_text(encoding="utf-8")
    assert "How often is the token that the model finds most probable" in page
    assert "First choices that are right, over 2 seeds" in page
    assert {path.stem for path in (assay.cwd / "study" / "report").glob("*.svg")} >= {"accuracy", "position"}
    share = f"{100 * column['value']:.4g}%"
    assert share in page
    shown = assay("report", "study").out
    assert share in shown, "without the file that brought it"
    assert f"{100 * column['floor']:.4g}%" in next(line for line in shown.splitlines() if "chance" in line)
    assert "chance" in page
    assert share in assay("measure", "study", "--only", "accuracy", "--plugin", plugin).out


@pytest.mark.slow
def test_measuring_later_gives_the_same_bytes(assay: Assay, plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[int] = []

    def page(record: StudyRecord, runs: list[MeasuredRun], results: Results, folder: Path) -> Path:
        pages.append(len(record.arms) + len(runs) + len(results))
        return folder

    monkeypatch.setattr("assay.study.conclude.write_report", page)
    monkeypatch.setattr("assay.study.measure.refresh.write_report", page)
    asked = ["--plugin", plugin, *listing("recall", "accuracy", "signals")]
    assert assay(*TWO, *assay.tokens, "--out", "now", *asked).status == 0
    assert assay(*TWO, *assay.tokens, "--out", "later", *listing("recall")).status == 0
    first = StudyRecord.read(assay.cwd / "later" / "study.json")
    said = assay("measure", "later", "--only", "accuracy,signals", "--plugin", plugin)
    assert said.status == 0, said.err
    assert "accuracy" in said.out
    assert len(pages) == 3
    for name in ("accuracy", "signals", "recall"):
        assert len(values(assay.cwd / "now", name)) == 4
        assert values(assay.cwd / "later", name) == values(assay.cwd / "now", name)
    record = StudyRecord.read(assay.cwd / "later" / "study.json")
    (addition,) = record.added
    assert (addition.looks, sorted(addition.measurements)) == (1, ["accuracy", "signals"])
    assert any(line.startswith("Measurements ") and "after the first look" in line for line in record.headline)
    assert [arm.test for arm in record.arms] == [arm.test for arm in first.arms]
    assert [pair.sentence for pair in record.pairs] == [pair.sentence for pair in first.pairs]
    again = assay(*TWO, *assay.tokens, "--out", "later", *asked)
    assert (again.status, again.err) == (0, "later: finished before; shown again, nothing is trained\n")
    before = (assay.cwd / "later" / "study.json").read_bytes()
    both = assay("measure", "later", "now", "--only", "accuracy", "--plugin", plugin, "--json")
    looked = json_of(both.out)["subjects"]
    assert [(one["added"], len(one["rows"])) for one in looked] == [([], 2), ([], 2)]
    assert (assay.cwd / "later" / "study.json").read_bytes() == before


def test_an_edited_measurement_is_said_and_measured_again(assay: Assay, plugin: str) -> None:
    asked = ["train", "gpt1", *assay.small, "--out", "run", "--plugin", plugin, "--measure", "accuracy"]
    assert assay(*asked).status == 0
    path = assay.cwd / plugin
    path.write_text(path.read_text(encoding="utf-8").replace(", 4, axis=1", ", 2, axis=1"))
    edited = assay("measure", "run", "--plugin", plugin, "--only", "accuracy", "--json")
    assert edited.status == 0, edited.err
    assert json_of(edited.out)["subjects"][0]["added"] == ["accuracy"], edited.err


def test_results_that_do_not_fit_are_said_and_measured_again(assay: Assay) -> None:
    assert assay("train", "gpt1", *assay.small, "--out", "run").status == 0
    path = assay.cwd / "run" / "measurements" / "recall.json"
    good = MeasurementResult.read(path)
    other = good.measured.model_copy(update={"weights_sha256": "0" * 64})
    for wrong in (
        good.model_copy(update={"measured": other, "values": {**good.values, "recall_nats": 1.0}}),
        good.model_copy(update={"measurement_version": 99, "values": {**good.values, "recall_nats": 1.0}}),
    ):
        wrong.write(path)
        said = json_of(assay("measure", "run", "--json").out)["subjects"][0]
        assert said["added"] == ["recall"]
        assert MeasurementResult.read(path).values == good.values
    path.unlink()
    assert json_of(assay("measure", "run", "--only", "memory", "--json").out)["subjects"][0]["added"] == ["recall"]
    assert MeasurementResult.read(path) == good


def test_a_result_file_that_is_not_the_runs_is_named_and_mended_by_measure(
    assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("study.conclude", "study.measure.refresh", "report.page"):  # drawing figures takes longest
        monkeypatch.setattr(f"assay.{place}.write_report", lambda *_: None)
    asked = ["compare", "gpt1", *assay.small, "--seeds", "1", "--out", "study"]
    assert assay(*asked).status == 0
    folder = next((assay.cwd / "study" / "runs").iterdir()) / "measurements"
    path = folder / "recall.json"
    good = MeasurementResult.read(path)
    of_another = good.model_copy(update={"measured": good.measured.model_copy(update={"spec_digest": "0" * 64})})
    for text, why in (
        ("{", "not JSON"),
        ((folder / "signals.json").read_text(encoding="utf-8"), "holds a result of signals"),
        (of_another.model_dump_json(), "is of another run"),
    ):
        path.write_text(text, encoding="utf-8")
        said = assay("report", "study")
        assert (said.status, why in said.err) == (0, True), said.err
        assert "; `assay measure study` measures again" in said.err
    assert why in assay(*asked).err
    assert assay("measure", "study").status == 0
    assert MeasurementResult.read(path) == good
    assert assay("report", "study").err == ""


def test_models_from_elsewhere_are_measured_as_far_as_they_can_be(assay: Assay) -> None:
    before = assay.left()
    text = ["--corpus", f"text:{assay.corpus}", "--tokenizer", "bytes", "--context", "32", "--size", "30k"]
    said = assay("measure", "gpt1", *text)
    assert said.status == 0, said.err
    assert "untrained" in said.out
    assert "likelihood: needs trained weights; an untrained model has none" in said.err
    none = assay("measure", "gpt1", "--only", "likelihood", *text)
    assert (none.status, none.out) == (2, "")
    assert assay.left() == before, "nothing is stored"


def test_arms_that_are_named_together_take_turns(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.evaluation.measurements.speed.BURST_SECONDS", 0.01)
    protocol = QUICK.model_copy(update={"prefill_tokens": 16, "contexts": [8, 16], "generated_tokens": 4})
    monkeypatch.setattr(type(MEASUREMENTS.get("inference_quick")), "protocol", protocol)
    text = ["--corpus", f"text:{assay.corpus}", "--tokenizer", "bytes", "--context", "32", "--size", "30k"]
    said = assay("measure", "gpt1", "mamba2", "--only", "signals,inference_quick", *text, "--json")
    assert said.status == 0, said.err
    subjects = {one["subject"]: one for one in json_of(said.out)["subjects"]}
    assert list(subjects) == ["gpt1, untrained", "mamba2, untrained", "gpt1 and mamba2, untrained"]
    together = subjects["gpt1 and mamba2, untrained"]
    assert [row["name"] for row in together["rows"]] == ["gpt1", "mamba2"]
    (result,) = next(iter(together["results"].values())).values()
    assert (result["timed"], result["values"]["together"]) == (True, [["gpt1", "mamba2"]])


def test_a_study_says_what_its_arms_save_for_their_time(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.evaluation.measurements.speed.BURST_SECONDS", 0.01)
    protocol = QUICK.model_copy(update={"prefill_tokens": 16, "contexts": [8, 16], "generated_tokens": 4})
    monkeypatch.setattr(type(MEASUREMENTS.get("inference_quick")), "protocol", protocol)
    command = ["compare", "gpt1", "--seeds", "1", *assay.small, "--out", "study", *listing("inference_quick")]
    done = assay(*command)
    assert done.status == 0, done.err
    stored = (assay.cwd / "study" / "measurements" / "inference_quick.json").read_bytes()
    said = assay("measure", "study", "--only", "inference_quick")
    assert said.status == 0, said.err
    words = " ".join(said.out.split())
    assert "bits a token against the unigram floor" in words
    assert "document 004's CER, which rewards a worse perplexity, is" in words
    assert (assay.cwd / "study" / "measurements" / "inference_quick.json").read_bytes() == stored, "not timed again"


def test_an_exported_run_measures_as_the_run_does(assay: Assay) -> None:
    assert assay("train", "gpt1", *assay.small, "--out", "run").status == 0
    assert assay("export", "run", "--to", "exported").status == 0
    text = ["--corpus", f"text:{assay.corpus}", "--context", "32"]
    said = assay("measure", "hf:exported", "--only", "signals,recall", *text, "--json")
    assert said.status == 0, said.err
    (one,) = json_of(said.out)["subjects"]
    results = one["results"]["hf:exported"]
    own = MeasuredRun.read(assay.cwd / "run").results["signals"].values
    assert results["signals"]["values"] == {**own, "initial": None}
    wrong = assay("measure", "run", *text)
    assert (wrong.status, wrong.out) == (2, "")
    assert "run: is measured on its own text; data options are for models from elsewhere" in wrong.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("measure", "nowhere"), "nowhere: no architecture, folder of a run, FILE.py or hf:PATH"),
        (("measure", "gpt1", "--only", "recal"), "--only recal: no measurement and no group of them; did you mean"),
        (("measure", "gpt1", "--only", ","), "--only ',': names nothing"),
        (("measure", "."), ".: no config.yaml; the folder of a run would do"),
        (("compare", "gpt1", "--measure", "nope"), "--measure nope: no measurement and no group of them"),
        (("train", "gpt1", "--measure", " ,"), "--measure ' ,': names nothing"),
    ],
)
def test_what_cannot_be_asked_is_one_line(assay: Assay, arguments: tuple[str, ...], says: str) -> None:
    said = assay(*arguments)
    assert (said.status, said.out) == (2, "")
    (line,) = said.lines
    assert says in line


@pytest.mark.parametrize("version", ["schema1", "schema2"])
def test_older_studies_are_measured_where_something_is_missing(
    assay: Assay, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / version, assay.cwd / version)
    folder = assay.cwd / version
    before = StudyRecord.read(folder / "study" / "study.json")
    monkeypatch.chdir(folder)
    said = assay("measure", "study", "--json")
    assert said.status == 0, said.err
    (one,) = json_of(said.out)["subjects"]
    newer = ["output_health"]  # a version that looks for uniform outputs too
    assert one["added"] == ([*newer, "speed"] if version == "schema1" else newer)
    after = StudyRecord.read(folder / "study" / "study.json")
    assert [arm.test for arm in after.arms] == [arm.test for arm in before.arms]
    honest = assay("measure", "study", "--only", "honest_likelihood", "--json")
    assert json_of(honest.out)["subjects"][0]["added"] == ["honest_likelihood"], honest.err
