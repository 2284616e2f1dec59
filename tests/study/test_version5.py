"""Configurations of before the default study was another: they keep the defaults that they took for granted."""

from pathlib import Path

import pytest

from assay.data.dataset import load_dataset
from assay.errors import RequestError
from assay.study.asked import DEFAULT_ARMS, DEFAULT_SIZE, FIRST_TRAINING, StudyConfig
from assay.study.compare import compare
from assay.training.config import TrainingConfig
from study.made_up import Make

OLD_ARMS = ["gpt1", "rwkv6", "mamba2"]


def taken_for_granted(config: StudyConfig) -> tuple[object, ...]:
    return [arm.label for arm in config.arms], config.size, config.data.tokenizer, config.training.tokens


@pytest.mark.parametrize(
    ("version", "size", "tokenizer"),
    [(1, 1_000_000, "bpe:4096"), (2, 1_000_000, "bpe:4096"), (3, 1_000_000, "bpe:4096"), (4, 500_000, "bpe:1024")],
)
def test_what_older_files_took_for_granted_is_written_out(version: int, size: int, tokenizer: str) -> None:
    assert taken_for_granted(StudyConfig.parse({"version": version})) == (OLD_ARMS, size, tokenizer, 65_536)
    assert taken_for_granted(StudyConfig.parse({"version": version, "training": None, "data": None})) == (
        OLD_ARMS, size, tokenizer, 65_536
    )  # fmt: skip


def test_what_they_say_is_kept() -> None:
    said = {"arms": ["rwkv7"], "size": 20_000, "data": {"tokenizer": "gpt2"}, "training": {"tokens": 5}}
    assert taken_for_granted(StudyConfig.parse({"version": 4, **said})) == (["rwkv7"], 20_000, "gpt2", 5)
    assert StudyConfig.parse({"version": 4, "size": None}).size is None
    assert StudyConfig.parse({"version": 4, "model": {"d_model": 32}}).size is None
    assert StudyConfig.parse({"version": 4, "sizes": [10_000]}).size is None


def test_a_tokenizer_written_beside_a_task_means_nothing() -> None:
    written = {"version": 4, "data": {"task": "copying", "tokenizer": "bpe:1024"}}
    assert StudyConfig.parse(written).data.tokenizer == "bytes"
    with pytest.raises(RequestError, match="--tokenizer bpe:512: is about a text"):
        load_dataset(StudyConfig.parse({"version": 4, "data": {"task": "copying", "tokenizer": "bpe:512"}}).data, print)


def test_todays_files_have_todays_defaults() -> None:
    today = (list(DEFAULT_ARMS), DEFAULT_SIZE, "bytes", FIRST_TRAINING["tokens"])
    assert taken_for_granted(StudyConfig.parse({})) == today == taken_for_granted(StudyConfig.parse({"version": 6}))
    with pytest.raises(RequestError, match="version: 7 given"):
        StudyConfig.parse({"version": 7})


def test_files_of_version_5_have_its_arms_and_protocol() -> None:
    before = StudyConfig.parse({"version": 5})
    assert taken_for_granted(before) == (["transformer++", "rwkv6", "mamba2"], 250_000, "bytes", 327_680)
    assert before.training == TrainingConfig()


def test_the_protocol_of_the_first_study_is_that_of_no_named_arms() -> None:
    first = StudyConfig.parse({})
    assert first.training == TrainingConfig.parse(dict(FIRST_TRAINING))
    assert StudyConfig.parse({"arms": list(DEFAULT_ARMS)}).training == TrainingConfig()
    asked = StudyConfig.parse({"training": {"tokens": 4_096, "optimizer": "adamw"}})
    assert (asked.training.tokens, asked.training.optimizer, asked.training.batch_tokens) == (4_096, "adamw", 2_048)
    task = StudyConfig.parse({"data": {"task": "copying"}})
    assert [arm.label for arm in task.arms] == list(DEFAULT_ARMS)
    assert task.training == TrainingConfig()


def test_a_study_of_version_4_is_shown_and_not_continued(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    made = compare(make(("gpt1",), (0,), measurements=[]), folder)
    for path in folder.rglob("config.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("version: 6\n")
        path.write_text(text.replace("version: 6", "version: 4", 1), encoding="utf-8")
    assert compare(make(("gpt1",), (0,), measurements=[]), folder) == made
    with pytest.raises(RequestError, match=r"older assay \(version 4\), .* not continued; a new folder would do"):
        compare(make(("gpt1",), (0, 1), measurements=[]), folder)
