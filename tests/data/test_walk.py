"""Folders and globs: the same files, each once, whatever links there are; what is passed over is counted."""

import os
from pathlib import Path

import pytest

from assay.data.config import DataConfig
from assay.data.corpus import read_documents, silent
from assay.data.text.reading.walk import walk
from assay.errors import RequestError


def read(path: Path | str) -> tuple[list[str], list[str]]:
    """(names of documents, lines told)."""
    lines: list[str] = []
    return [each.name for each in read_documents(DataConfig(corpus=f"text:{path}"), lines.append)], lines


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name in ("library/books/0.txt", "library/books/1.txt", "elsewhere/2.txt", "elsewhere/deep/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "library" / "linked").symlink_to("../elsewhere")
    return tmp_path / "library"


def test_folder_and_glob_are_one_walk_through_linked_folders(library: Path) -> None:
    expected = ["books/0.txt", "books/1.txt", "linked/2.txt", "linked/deep/3.txt"]
    assert read(library) == (expected, [])
    for pattern in ("**/*.txt", "**", "*", "**/*", "**/**/*.txt", "[bl]*/**/?.txt"):
        assert read(library / pattern) == (expected, []), pattern
    assert read(library / "*" / "*.txt")[0] == ["books/0.txt", "books/1.txt", "linked/2.txt"]
    assert read(library / "link*")[0] == ["2.txt", "deep/3.txt"]


@pytest.mark.parametrize("links", [1, 2, 12])
def test_links_in_a_circle_are_walked_once(links: int, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(str(number))
    for number in range(links):
        (folder / f"link{number}").symlink_to(".")
    (folder / "above").symlink_to("..")
    expected = [f"{number}.txt" for number in range(4)]
    for place in (folder, folder / "**/*.txt", folder / "**/**/*.txt", folder / "**"):
        names, [line] = read(place)
        assert names == expected
        assert line.startswith(f"passed over in {place}: ")
        assert line.endswith("links to what is read already")


def test_each_real_file_once_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "real.txt").write_text("text")
    (tmp_path / "a" / "link.txt").symlink_to("../z/real.txt")
    os.link(tmp_path / "z" / "real.txt", tmp_path / "z" / "same.txt")
    (tmp_path / "b").symlink_to("z")
    for place in (tmp_path, tmp_path / "**/*.txt"):
        names, [line, _] = read(place)
        assert names == [f"{'z/' if place == tmp_path else ''}real.txt"]
        assert line == f"passed over in {place}: 3 links to what is read already"


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.txt").write_text("text")
    (tmp_path / "picture.png").write_bytes(b"\0")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe.txt")
    assert read(tmp_path) == (
        ["a.txt"],
        [
            f"passed over in {tmp_path}: 1 file whose suffix is not that of a text, 1 hidden name, "
            "2 dead links, 1 special file (pipe, socket or device)",
            f"{tmp_path} has one file, which is one document; text:{tmp_path}/a.txt would cut it into passages",
        ],
    )
    assert read(tmp_path / ".h*" / "*.txt")[0] == ["b.txt"]
    assert walk(tmp_path / "*.png").files == [tmp_path / "picture.png"]


def test_an_empty_file_among_others_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_text("")
    names, lines = read(tmp_path)
    assert names == ["a.txt"]
    assert lines == [f"dropped from {tmp_path}: 1 document, empty or blank"]


def test_a_folder_that_is_only_a_circle_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(".")
    with pytest.raises(RequestError, match="no files"):
        read_documents(DataConfig(corpus=f"text:{tmp_path}"), silent)


def test_a_link_gives_a_file_the_suffix_that_its_own_name_lacks(tmp_path: Path) -> None:
    """As in the cache of the hub, where names lead to files that are called by their digest."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for number, name in enumerate(("train.txt", "test.txt")):
        (tmp_path / "blobs" / f"a{number}").write_text(f"text {number}")
        (tmp_path / "snapshot" / name).symlink_to(f"../blobs/a{number}")
    for place in (tmp_path, tmp_path / "snapshot"):
        names, lines = read(place)
        assert [Path(name).name for name in names] == ["test.txt", "train.txt"]
        assert lines == []
