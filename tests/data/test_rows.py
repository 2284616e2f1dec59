"""Rows by content, not by name: JSON lines, arrays, parquet; null and odd rows."""

import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from assay.data.config import DataConfig
from assay.data.corpus import read_documents
from assay.errors import RequestError

TEXTS = ["first", "zwei \u2028 \u00e9", "third"]
OBJECTS = [{"id": n, "body": text} for n, text in enumerate(TEXTS)]

LINES = "\n".join(json.dumps(each, ensure_ascii=False) for each in OBJECTS)
FORMS = {
    "lines": LINES,
    "lines with blank ones and CRLF": LINES.replace("\n", "\r\n\r\n"),
    "array": json.dumps(OBJECTS),
    "array on several lines": json.dumps(OBJECTS, indent=2),
    "array after blank lines": "\n\n " + json.dumps(OBJECTS),
    "array, a row a line": "[" + ",\n".join(map(json.dumps, OBJECTS)) + "]\n",
    "objects on several lines": "\n".join(json.dumps(each, indent=2) for each in OBJECTS),
}


def read(path: Path, field: str = "text") -> tuple[list[str], list[str]]:
    """(texts, lines told)."""
    lines: list[str] = []
    found = read_documents(DataConfig(corpus=f"text:{path}", text_field=field), lines.append)
    return [each.text for each in found], lines


def complaint(path: Path, field: str = "text") -> str:
    with pytest.raises(RequestError) as caught:
        read(path, field)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.JSON", "a.txt", "a.md", "a"])
@pytest.mark.parametrize("form", FORMS)
def test_what_begins_like_json_is_read_as_rows_whatever_its_name(form: str, name: str, tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / name).write_text(mark + FORMS[form], newline="")
        assert read(tmp_path / name, "body") == (TEXTS, [])
    if "." in name:
        assert read(tmp_path, "body") == (TEXTS, [])


def test_parquet_by_another_name_is_read(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "a.txt")
    assert read(tmp_path / "a.txt") == (TEXTS, [])


def test_one_row_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "alone"}')
    assert read(tmp_path / "a.json") == (["alone"], [])


PLAIN = {
    "settings.json": '{"a": {"b": 1}}',
    "numbers.json": "[1, 2]",
    "strings.txt": '["a", "b"]',
    "log.txt": '{"a": 1}\nand prose\n',
    "table.csv": "a,b\n1,2\n",
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_taken_as_plain_text_all_the_same_leaves_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(PLAIN[name])
    for place in (tmp_path / name, tmp_path):
        texts, [line, *_] = read(place)
        assert texts == [PLAIN[name]]
        assert line.startswith(f"{place}: taken as plain text, braces and separators included")
        assert f": {name};" in line


def test_sections_and_braces_of_other_languages_are_plain_text(tmp_path: Path) -> None:
    for name, text in {"a.ini": "[section]\na = 1\n", "b.tex": "{\\bf x}\n", "c.txt": "[1] A note.\n"}.items():
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name) == ([text], [])


def test_rows_without_the_field_stop_alone_and_are_told_of_among_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(OBJECTS))
    (tmp_path / "b.txt").write_text("prose")
    assert "row 1 has no field 'text'; --text-field can name one of 'body'" in complaint(tmp_path / "a.json")
    texts, [line] = read(tmp_path)
    assert texts == [json.dumps(OBJECTS), "prose"]
    assert line.startswith(f"{tmp_path}: taken as plain text")
    assert ": a.json;" in line


def test_an_empty_file_of_rows_begins_like_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("")
    (tmp_path / "b.txt").write_text("prose")
    (tmp_path / "c.txt").write_text("more prose")
    assert read(tmp_path) == (["prose", "more prose"], [f"dropped from {tmp_path}: 1 document, empty or blank"])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_numbers_of_rows_are_of_any_length_and_nesting_has_an_end(name: str, tmp_path: Path) -> None:
    rows = '{"text": "one", "n": ' + "9" * 6000 + '}\n{"text": "two", "n": -1.5e400}\n'
    (tmp_path / name).write_text(rows)
    assert read(tmp_path / name) == (["one", "two"], [])
    (tmp_path / name).write_text(rows + '{"text": "three", "n": ' + "[" * 100_000)
    assert "(nested too deeply)" in complaint(tmp_path / name).replace("not JSON: ", "")


def test_an_array_that_is_cut_off_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(OBJECTS)[:-9])
    assert "holds no rows (not JSON: " in complaint(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_null_and_blank_rows_are_dropped_with_a_count(name: str, tmp_path: Path) -> None:
    rows = ["one", None, " ", "two", None]
    if name == "a.parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / name)
    else:
        (tmp_path / name).write_text("\n".join(json.dumps({"text": row}) for row in rows))
    texts, lines = read(tmp_path / name)
    assert [text for text in texts if text.strip()] == ["one", "two"]
    assert lines == [
        f"dropped from {tmp_path / name}: 2 of 5 rows, whose text is null",
        f"dropped from {tmp_path / name}: 1 document, empty or blank",
    ]


def test_rows_that_are_all_null_have_another_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null, "body": "a"}\n' * 3)
    assert "field 'text' is null in all 3 rows; another --text-field would do" in complaint(tmp_path / "a.jsonl")


@pytest.mark.parametrize("place", [0, 60, 150])
@pytest.mark.parametrize(
    ("odd", "expected"),
    [({"body": "x"}, "has no field 'text'"), ({"text": 3}, "holds no text but a number"), ([1], "is no JSON object")],
)
def test_one_odd_row_is_no_advice_for_all(place: int, odd: object, expected: str, tmp_path: Path) -> None:
    rows: list[object] = [{"text": "fine", "other": "x"}] * 200
    rows[place] = odd
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = complaint(tmp_path / "a.jsonl")
    assert re.search(f"(line|row) {place + 1}\\b", message)
    assert expected in message
    assert "--text-field" not in message


COLUMNS = {
    "binary": (pyarrow.array([b"a"]), "column 'text' is binary, not text; --text-field can name one of 'body'"),
    "null": (pyarrow.nulls(1), "column 'text' is null in every row"),
    "int64": (pyarrow.array([1]), "column 'text' is int64, not text"),
    "list": (pyarrow.array([["a"]]), "column 'text' is list<element: string>, not text"),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_parquet_says_what_its_column_holds(kind: str, tmp_path: Path) -> None:
    column, expected = COLUMNS[kind]
    pyarrow.parquet.write_table(pyarrow.table({"text": column, "body": ["x"]}), tmp_path / "a.parquet")
    assert expected in complaint(tmp_path / "a.parquet")


def test_large_and_dictionary_strings_are_text(tmp_path: Path) -> None:
    text = pyarrow.array(["a", "b"])
    for column in (text.cast(pyarrow.large_string()), text.dictionary_encode()):
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet")[0] == ["a", "b"]


def test_separators_inside_lines_and_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one<|endoftext|>two<|endoftext|>\n<|endoftext|>\nthree\n")
    (tmp_path / "b.jsonl").write_text('{"text": "four<|endoftext|>five"}\n')
    texts, [line] = read(tmp_path)
    assert texts == ["one<|endoftext|>two<|endoftext|>\n", "three\n", "four<|endoftext|>five"]
    assert line.startswith(f"<|endoftext|> stands 3 times inside lines or rows of {tmp_path}")
