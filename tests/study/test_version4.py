"""Configurations and records of before heads were a key and sizes counted blocks and one head."""

import shutil
from pathlib import Path

import pytest

from assay.config import read_yaml
from assay.errors import RequestError
from assay.records import DEFAULT_MATCH, RunRecord, StudyRecord
from assay.report.columns import study_columns
from assay.study.asked import StudyConfig
from assay.study.compare import compare
from assay.study.older import VERSION

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_older_files_took_for_granted_is_written_out(version: int) -> None:
    """Heads were tied, sizes were totals, the tokenizer had 4,096 tokens."""
    old = StudyConfig.parse({"version": version, "arms": ["gpt1"]})
    assert (old.version, old.match, old.data.tokenizer, old.model) == (VERSION, "total", "bpe:4096", {"heads": "tied"})
    said = {"match": "flops", "data": {"tokenizer": "bytes"}, "model": {"tied_embeddings": False}}
    kept = StudyConfig.parse({"version": version, "arms": ["gpt1"], **said})
    assert (kept.match, kept.data.tokenizer, kept.model) == ("flops", "bytes", {"heads": "untied"})
    for data in ({"task": "copying"}, {"task": "copying", "corpus": "stdlib", "tokenizer": "bpe:4096"}):
        task = StudyConfig.parse({"version": version, "arms": ["gpt1"], "data": data})
        assert (task.data.task, task.data.tokenizer) == ("copying", "bytes")


def test_todays_files_have_todays_defaults() -> None:
    new = StudyConfig.parse({"arms": ["gpt1"]})
    assert (new.match, new.data.tokenizer, new.model) == (DEFAULT_MATCH, "bytes", {})


def test_the_older_key_is_read_for_all_arms_for_one_and_inside_it() -> None:
    config = StudyConfig.parse(
        {
            "arms": [{"architecture": "rwkv7", "model": {"tied_embeddings": True}}, "gpt1", "mamba2"],
            "model": {"tied_embeddings": False, "gpt1": {"tied_embeddings": True}},
        }
    )
    assert config.model == {"heads": "untied"}
    assert [arm.model for arm in config.arms] == [{"heads": "tied"}, {"heads": "tied"}, {}]
    with pytest.raises(RequestError, match="'maybe' given, true or false would do"):
        StudyConfig.parse({"arms": ["gpt1"], "model": {"tied_embeddings": "maybe"}})


def test_runs_of_before_say_that_they_were_tied() -> None:
    for folder in ("schema1/run", "schema2/run"):
        run = StudyConfig.parse(read_yaml(FIXTURES / folder / "config.yaml"))
        assert {**run.model, **run.arms[0].model}["heads"] == "tied"
        record = RunRecord.read(FIXTURES / folder / "record.json")
        assert record.parameters.blocks_and_head is None
        assert record.optimizer_groups == []


def test_a_study_of_before_is_shown_and_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FIXTURES / "schema2", tmp_path / "schema2")
    monkeypatch.chdir(tmp_path / "schema2")
    asked = StudyConfig.parse(read_yaml(Path("study/config.yaml")))
    before = {path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file()}
    shown = compare(asked, Path("study"))
    assert shown == StudyRecord.read(Path("study/study.json"))
    assert [column.head.second for column in study_columns(shown) if column.head.first == "parameters"] == [
        "non-embedding"
    ]
    with pytest.raises(RequestError, match=r"older assay \(version 2\), .* not continued; a new folder would do"):
        compare(asked.model_copy(update={"seeds": [0, 1, 2]}), Path("study"))
    assert before == {path: path.read_bytes() for path in Path("study").rglob("*") if path.is_file()}
