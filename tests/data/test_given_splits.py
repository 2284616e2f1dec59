"""Splits that the user made, by the names of files and folders."""

import gzip
import json
import os
from pathlib import Path

import pytest

from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, read_documents
from assay.data.text.prepare import prepare
from assay.data.text.reading.given_splits import given_splits
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
    assert "1 file in no split beside the official ones" in "".join(
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
        f"not read beside {tmp_path / 'train.txt'}: test.txt; text:{tmp_path} reads all as official splits"
    ]
    assert _lines(tmp_path) == []
    (tmp_path / "valid.txt").write_text(" \n")
    with pytest.raises(RequestError, match="its validation split holds no text"):
        _lines(tmp_path)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "valid.txt").unlink()
    line, only = _lines(tmp_path)
    assert line.startswith(f"read like any other text in {tmp_path}: test.txt; official splits are train and ")
    assert only.startswith(f"{tmp_path} has one file, which is one document; text:{tmp_path}/test.txt would")


def write(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text(number))


def test_splits_beside_other_files_are_told_of_with_the_folder_that_reads_them(tmp_path: Path) -> None:
    write(tmp_path, ["data/train.txt", "data/test.txt", "other.txt"])
    [line] = _lines(tmp_path)
    assert line.startswith(f"read like any other text in {tmp_path}: data/test.txt, data/train.txt; ")
    assert line.endswith(f"; text:{tmp_path}/data reads those")
    assert {each.split for each in read_documents(DataConfig(corpus=f"text:{tmp_path}/data"), lambda _: None)} == {
        "train",
        "test",
    }


def test_folders_without_the_other_split_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, ["train/a.txt", "train/b.txt", "eval/a.txt", "c.txt"])
    [line] = _lines(tmp_path)
    assert line.startswith(f"read like any other text in {tmp_path}: train/; ")
    assert "reads those" not in line


def test_raw_and_tokens_are_splits_in_a_folder_too(tmp_path: Path) -> None:
    for suffix in ("raw", "tokens"):
        write(tmp_path / suffix, [f"wiki.{name}.{suffix}" for name in ("train", "valid", "test")])
        found = read_documents(DataConfig(corpus=f"text:{tmp_path / suffix}"), lambda _: None)
        assert [each.split for each in found] == ["test", "train", "validation"]


def test_shards_that_are_not_there_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, ["train-00000-of-00003.txt", "train-00002-of-00003.txt", "test-1-of-2.txt", "test-2-of-2.txt"])
    assert _lines(tmp_path) == [f"not there in {tmp_path}, by the numbers of the others: train-00001-of-00003.txt"]


@pytest.mark.parametrize("link", ["folder", "file", "hard link"])
def test_one_text_is_not_in_two_splits_by_two_names(link: str, tmp_path: Path) -> None:
    write(tmp_path, ["real/a.txt", "test/b.txt", "validation/c.txt"])
    if link == "folder":
        (tmp_path / "train").symlink_to("real")
    else:
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "t.txt").write_text(text(9))
        (os.link if link == "hard link" else os.symlink)(tmp_path / "test" / "b.txt", tmp_path / "train" / "b.txt")
    with pytest.raises(RequestError, match="are one text under two names, which would put it into two splits or none"):
        _lines(tmp_path)


def test_links_within_a_split_or_to_another_place_change_no_split(tmp_path: Path) -> None:
    write(tmp_path, ["d/test/b.txt", "d/train/a.txt", "elsewhere/c.txt"])
    (tmp_path / "d" / "train" / "again.txt").symlink_to("a.txt")
    (tmp_path / "d" / "validation").symlink_to("../elsewhere")
    found = read_documents(DataConfig(corpus=f"text:{tmp_path / 'd'}"), lambda _: None)
    assert [(each.name, each.split) for each in found] == [
        ("test/b.txt", "test"),
        ("train/a.txt", "train"),
        ("validation/c.txt", "validation"),
    ]


def test_a_missing_split_is_made_from_train_and_said(tmp_path: Path) -> None:
    for name, of in {"train": range(30), "test": range(28, 40)}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text(n)}) + "\n" for n in of))
    lines: list[str] = []
    corpus = prepare(DataConfig(corpus=f"text:{tmp_path}", tokenizer="bytes"), lines.append)
    for again in (corpus, prepare(DataConfig(corpus=f"text:{tmp_path}", tokenizer="bytes"))):
        (line,) = (line for line in again.description() if line.startswith(f"text:{tmp_path}: train"))
        assert line.endswith("(official splits, validation made from train, 2 exact duplicates dropped)")
    assert len(corpus.train.names) + len(corpus.validation.names) == 28
    assert len(corpus.test.names) == 12


def test_the_way_of_splitting_that_changes_nothing_is_told_of(tmp_path: Path) -> None:
    write(tmp_path, ["train.txt", "valid.txt", "test.txt"])
    config = DataConfig(corpus=f"text:{tmp_path}", tokenizer="bytes", split_by="position")
    for _ in range(2):  # from the cache too
        lines: list[str] = []
        prepare(config, lines.append)
        assert lines[-1] == f"split_by position changes nothing: text:{tmp_path} has all its splits"
