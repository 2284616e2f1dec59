"""Documents from files: what counts as one, and the one line each wrong file gets."""

import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.config import DataConfig
from assay.data.corpus import Document, read_documents, silent
from assay.data.text.reading.textfile import LONG_PASSAGE_BYTES, PASSAGE_BYTES, parts, passages
from assay.errors import RequestError


def read(path: Path | str, field: str = "text") -> list[Document]:
    return read_documents(DataConfig(corpus=f"text:{path}", text_field=field), silent)


def complaint(path: Path | str, field: str = "text") -> str:
    with pytest.raises(RequestError) as caught:
        read(path, field)
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(st.text(alphabet="ab \n\r\u4e2d", max_size=400), st.integers(1, 200))
@settings(deadline=None, max_examples=60, database=None)
def test_passages_joined_are_the_text(text: str, repeat: int) -> None:
    pieces = passages(text * repeat)
    assert "".join(pieces) == text * repeat
    assert all(len(piece.encode()) >= PASSAGE_BYTES for piece in pieces[:-1])
    assert all(len(piece.encode()) <= 2 * LONG_PASSAGE_BYTES + PASSAGE_BYTES for piece in pieces)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_passages_end_at_the_first_blank_line_after_four_kilobytes(newline: str) -> None:
    paragraph = (f"{'x' * 99}{newline}") * 30 + newline
    pieces = passages(paragraph * 6)
    assert pieces == [paragraph * 2] * 3
    assert passages(paragraph * 3) == [paragraph * 3], "a rest too short to stand alone joins the last passage"


def test_text_without_blank_lines_or_without_any_line_is_cut_too() -> None:
    assert len(passages("one line of a dialogue\n" * 5_000)) == 115_000 // LONG_PASSAGE_BYTES
    words = passages("word " * 20_000)
    assert len(words) > 4
    assert all(piece.endswith(" ") for piece in words)


def test_one_txt_is_cut_at_endoftext_lines_else_into_passages(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n<|endoftext|>\r\ntwo <|endoftext|> still two\n<|endoftext|>\n\n<|endoftext|>")
    assert [each.text for each in read(path)] == ["one\r\n", "two <|endoftext|> still two\n"]
    assert {each.source for each in read(path)} == {None}
    assert parts("no separator\n") == ["no separator\n"]
    path.write_text("paragraph\n\n" * 2_000)
    assert len(read(path)) > 2
    assert {each.source for each in read(path)} == {"stories.txt"}, "passages of one text are of one source"


def test_folder_and_glob_give_one_document_a_file_in_order_of_path(tmp_path: Path) -> None:
    long = "paragraph\n\n" * 2_000
    for name, text in {"b.txt": long, "a/z.md": "z", "a/y.xml": "<y/>", "c.bin": "\0", ".hidden/x.txt": "h"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    lines: list[str] = []
    found = read_documents(DataConfig(corpus=f"text:{tmp_path}"), lines.append)
    assert [each.name for each in found] == ["a/y.xml", "a/z.md", "b.txt"]
    assert found[2].text == long
    assert lines == [f"passed over in {tmp_path}: 1 file whose suffix is not that of a text, 1 hidden name"]
    assert [each.name for each in read(f"{tmp_path}/**/*.[mx]*")] == ["y.xml", "z.md"]
    assert "binary file (NUL at byte 0)" in complaint(f"{tmp_path}/*.bin")


def test_rows_of_jsonl_and_parquet_are_documents(tmp_path: Path) -> None:
    rows = ["first", "zwei \u2028 \u00e9", "third"]
    (tmp_path / "a.jsonl").write_text("\n\n".join(json.dumps({"body": row}) for row in rows))
    pyarrow.parquet.write_table(pyarrow.table({"body": rows}), tmp_path / "b.parquet")
    assert [each.text for each in read(tmp_path, "body")] == rows * 2
    assert [each.name for each in read(tmp_path / "a.jsonl", "body")] == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:5"]
    assert "no column 'text'; --text-field can name one of 'body'" in complaint(tmp_path / "b.parquet")


WRONG = {
    "empty.txt": (b"", "empty"),
    "blank.txt": (b" \n\n", "empty"),
    "binary.txt": (b"text\0more", "a binary file (NUL at byte 4)"),
    "latin.txt": ("caf\u00e9".encode("latin-1"), "not UTF-8 at byte 3 (0xe9)"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}\n', "not UTF-8 at byte 24 (0xe9)"),
    "list.jsonl": (b"[1]\n", "row 1 is no JSON object"),
    "field.jsonl": (b'{"body": "a", "title": "b"}\n', "no field 'text'; --text-field can name one of 'body', 'title'"),
    "number.jsonl": (b'{"text": 3}\n', "field 'text' holds no text but a number"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', "half a surrogate pair"),
    "broken.parquet": (b"PAR1 no", "not a parquet file that can be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_gets_one_line_also_in_a_folder(name: str, tmp_path: Path) -> None:
    content, expected = WRONG[name]
    (tmp_path / name).write_bytes(content)
    assert expected in complaint(tmp_path / name)
    assert expected in complaint(tmp_path)


def test_missing_paths_and_folders_without_text(tmp_path: Path) -> None:
    assert "no such file or folder" in complaint("~nobody-of-this-name/x.txt")
    assert "no such file or folder" in complaint(tmp_path / "missing.txt")
    assert "no files" in complaint(tmp_path)
    assert "no files" in complaint(tmp_path / "*.txt")
    (tmp_path / "picture.png").write_bytes(b"\0")
    assert "1 file, none with the suffix of a text" in complaint(tmp_path)


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert "--text-field body" in complaint(tmp_path / "a.txt", "body")
    for corpus in ("stdlib", "tinystories"):
        with pytest.raises(RequestError, match="--text-field body"):
            read_documents(DataConfig(corpus=corpus, text_field="body"), silent)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "-m pip install 'pyarrow<" in complaint(tmp_path / "a.parquet")
