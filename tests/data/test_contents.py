"""Compressed and otherwise encoded files: read where the standard library can, else named."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data.config import DataConfig
from assay.data.corpus import read_documents, silent
from assay.errors import RequestError

TEXT = "caf\u00e9 \u4e2d\u6587\r\nBZh is no compression\n"
ROWS = '{"text": "one"}\n{"text": "caf\u00e9"}\n'

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
}


def texts(path: Path | str) -> list[str]:
    return [each.text for each in read_documents(DataConfig(corpus=f"text:{path}"), silent)]


def complaint(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        texts(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", PACKED)
def test_compressed_text_and_rows_are_read_whatever_they_are_called(suffix: str, tmp_path: Path) -> None:
    for name, content, expected in (("a.txt", TEXT, [TEXT]), ("b.jsonl", ROWS, ["one", "caf\u00e9"])):
        packed = PACKED[suffix](content.encode())
        for place in (tmp_path / f"{name}.{suffix}", tmp_path / f"{name}.{suffix}".upper(), tmp_path / name):
            place.write_bytes(packed)
            assert texts(place) == expected
        (tmp_path / f"{name}.{suffix}".upper()).unlink()
        (tmp_path / name).unlink()
    (tmp_path / f"alone.{suffix}").write_bytes(b"no suffix of text: passed over")
    assert texts(tmp_path) == [TEXT, "one", "caf\u00e9"]


@pytest.mark.parametrize("suffix", PACKED)
def test_cut_off_or_damaged_compressed_data_is_one_line(suffix: str, tmp_path: Path) -> None:
    content = PACKED[suffix]("".join(f'{{"text": "row {n}"}}\n' for n in range(20_000)).encode())
    for name in (f"a.txt.{suffix}", f"a.jsonl.{suffix}"):
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert "is damaged or cut off" in complaint(tmp_path / name)
        (tmp_path / name).write_bytes(content[:200] + b"\xff" * 40 + content[240:])
        assert "damaged" in complaint(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_with_a_byte_order_mark_is_read(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    for name, content, expected in (("a.txt", TEXT, [TEXT]), ("b.jsonl", ROWS, ["one", "caf\u00e9"])):
        (tmp_path / name).write_bytes((mark + content).encode(encoding))
        assert texts(tmp_path / name) == expected


def _tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", content)
    return file.getvalue()


NAMED = {
    "no mark": (TEXT.encode("utf-16-le"), "looks like UTF-16 without a byte order mark"),
    "UTF-32": ("words".encode("utf-32-be"), "looks like UTF-32 without a byte order mark"),
    "rtf": (b"{\\rtf1\\ansi words}", "an RTF document"),
    "odd": (b"\xff\xfea", "UTF-16 by its byte order mark, and not valid"),
    "zip": (_zip(b"x"), "a zip archive"),
    "tar": (_tar(b"x"), "a tar archive"),
    "tar.gz": (gzip.compress(_tar(b"x")), "a tar archive in gzip"),
    "twice": (gzip.compress(bz2.compress(b"x")), "compressed twice (bzip2 in gzip)"),
    "pdf": (b"%PDF-1.4\n", "a PDF"),
    "sqlite": (b"SQLite format 3\0", "an SQLite database"),
    "binary": (b"text\0more", "a binary file (NUL at byte 4)"),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_no_text_is_named(case: str, tmp_path: Path) -> None:
    content, expected = NAMED[case]
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_bytes(content)
        assert expected in complaint(tmp_path / name)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library reads zstd from 3.14 on")
def test_zstd_is_named_and_told_how_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x04\x00")
    for place in (tmp_path / "a.jsonl.zst", tmp_path):
        assert "compressed by zstd" in complaint(place)
        assert "`zstd -d FILE`" in complaint(place)
