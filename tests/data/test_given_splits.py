"""Splits that the user made, by the names of files and folders."""

import gzip
import json
from pathlib import Path

import pytest

from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, read_documents
from assay.data.text.given_splits import given_splits
from assay.data.text.prepare import prepare
from assay.errors import RequestError

WORDS = ["miller", "baker", "weaver", "potter", "carter", "cooper", "fowler", "tanner", "sawyer", "thatcher"]


def text(number: int, words: int = 60) -> str:
    return " ".join(f"{WORDS[(number * 7 + place * place) % 10]}{number}x{place}" for place in range(words)) + "\n"


OFFICIAL = [
    (["train.txt", "valid.txt", "test.txt"], ["train", "validation", "test"]),
    (["train.jsonl", "validation.jsonl", "test.jsonl"], ["train", "validation", "test"]),
    (["Train.TXT", "VAL.txt", "Test.txt"], ["train", "validation", "test"]),
    (["train/a.py", "train/deep/b.py", "dev/c.py", "test/d.py"], ["train", "train", "validation", "test"]),
    (["train.txt.gz", "valid.jsonl", "test/a.txt"], ["train", "validation", "test"]),
    (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"], [*"ttT"]),
    (["wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"], ["train", "validation", "test"]),
    (["Stories-train.txt", "Stories-valid.txt"], ["train", "validation"]),
    (["data/train-0.jsonl", "data/test-0.jsonl", "README.md"], ["train", "test", None]),
    (["en/train.txt", "en/test.txt", "fr/train.txt", "fr/test.txt"], ["train", "test", "train", "test"]),
    (["train.txt", "val.txt", "book.txt"], ["train", "validation", None]),
]
NONE = [
    ["train.txt", "book.txt"],
    ["test.txt", "valid.txt"],
    ["train.py", "test.py", "val.py"],
    ["latest.txt", "restrain.txt"],
    ["how_to_train.txt", "driving_test.txt"],
    ["src/train/a.py", "src/test/b.py", "src/main.py"],
]


@pytest.mark.parametrize(("names", "expected"), OFFICIAL)
def test_official_splits_by_name(names: list[str], expected: list[str | None]) -> None:
    short = {"t": "train", "T": "test"}
    wanted = {name: short.get(split or "", split) for name, split in zip(names, expected, strict=True) if split}
    assert given_splits(names) == wanted


@pytest.mark.parametrize("names", NONE)
def test_other_names_are_no_splits(names: list[str]) -> None:
    assert given_splits(names) == {}


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "txt.gz"])
def test_the_users_splits_are_kept_and_shown(suffix: str, tmp_path: Path) -> None:
    texts = {
        "train": [text(n) for n in range(8)],
        "valid": [text(8), text(9)],
        "test": [text(n) for n in range(10, 13)],
    }
    for name, of in texts.items():
        content = "<|endoftext|>\n".join(of)
        if suffix == "jsonl":
            content = "".join(json.dumps({"text": each}) + "\n" for each in of)
        packed = gzip.compress(content.encode()) if suffix == "txt.gz" else content.encode()
        (tmp_path / f"{name}.{suffix}").write_bytes(packed)
    (tmp_path / "notes.txt").write_text("not in any split")
    for place in (tmp_path, f"{tmp_path}/*.{suffix}"):
        corpus = prepare(DataConfig(corpus=f"text:{place}", tokenizer="bytes"))
        for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
            assert corpus.tokenizer.decode(corpus.split(split).ids.tolist()) == "".join(texts[name])
        assert corpus.counts.official
        assert corpus.description()[0].startswith(f"text:{place}: train 8 documents of ")
        assert corpus.description()[0].endswith("(official splits)")
    assert "1 in no split beside the official ones" in "".join(
        line for line in _lines(tmp_path) if line.startswith("passed over")
    )


def _lines(folder: Path) -> list[str]:
    lines: list[str] = []
    read_documents(DataConfig(corpus=f"text:{folder}"), lines.append)
    return lines


def test_a_file_that_is_a_split_is_cut_and_a_file_in_a_split_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    long = "".join(text(n) + "\n" for n in range(40))
    (tmp_path / "train.txt").write_text(long)
    (tmp_path / "test" / "a.txt").write_text(long)
    found = read_documents(DataConfig(corpus=f"text:{tmp_path}"), lambda _: None)
    train = [each for each in found if each.split == "train"]
    assert "".join(each.text for each in train) == long
    assert len(train) > 2
    assert {each.source for each in train} == {"train.txt"}
    assert [(each.text, each.source) for each in found if each.split == "test"] == [(long, None)]


def test_max_bytes_is_shared_out(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"{n:099}\n"}) + "\n" for n in range(50)))
    found = read_documents(DataConfig(corpus=f"text:{tmp_path}", max_bytes=2_000), lambda _: None)
    counts = {split: len([each for each in found if each.split == split]) for split in SPLITS}
    assert counts == {"train": 16, "validation": 2, "test": 2}
    with pytest.raises(RequestError, match="--max-bytes 500: the first document of the validation split of"):
        read_documents(DataConfig(corpus=f"text:{tmp_path}", max_bytes=500), lambda _: None)


def test_a_split_of_one_name_is_told_of_and_an_empty_one_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(text(len(name)))
    assert _lines(tmp_path / "train.txt") == [
        f"test.txt beside {tmp_path / 'train.txt'} are not read; text:{tmp_path} reads all as official splits"
    ]
    assert _lines(tmp_path) == []
    (tmp_path / "valid.txt").write_text(" \n")
    with pytest.raises(RequestError, match="its validation split holds no text"):
        _lines(tmp_path)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "valid.txt").unlink()
    assert _lines(tmp_path) == [
        f"test.txt of {tmp_path} are no official splits: that takes train and validation or test"
    ]


def test_a_missing_split_is_made_from_train_and_said(tmp_path: Path) -> None:
    for name, of in {"train": range(30), "test": range(28, 40)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text(n)}) + "\n" for n in of))
    lines: list[str] = []
    corpus = prepare(DataConfig(corpus=f"text:{tmp_path}", tokenizer="bytes"), lines.append)
    assert "validation made from train, as there is no official split of that name" in lines
    assert f"text:{tmp_path}: 2 exact duplicates are dropped" in lines
    assert len(corpus.train.names) + len(corpus.validation.names) == 28
    assert len(corpus.test.names) == 12
