"""Rows of JSON lines, of JSON arrays and of parquet: the text of each in one field, None where it is null."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from assay.data.text.reading.contents import decode, opened
from assay.errors import RequestError
from assay.extras import brings

LINE_SUFFIXES = {".jsonl", ".ndjson"}
"""Suffixes that promise JSON lines."""

_BEGINS_LIKE_JSON = re.compile(r'\s*(\{\s*"|\[\s*(\{\s*"|"|\]|$))')
_DECODER = json.JSONDecoder(parse_int=float)
"""Reads values whose numbers are never looked at, so that none is too long."""
_KINDS = {
    bool: "true or false",
    float: "a number",
    str: "a text",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_AHEAD = 100
"""Rows that are read ahead to tell an odd row from a field that no row has."""

Rows = Iterator[tuple[int, str | None]]
"""(line or row number from 1, its text, None where it is null)."""


class NotRows(Exception):  # noqa: N818  it is an answer, not an error
    """The file begins like JSON and does not hold rows."""


def begins_like_json(head: str) -> bool:
    """Whether a text begins like a JSON object or an array; a heading `[section]` does not."""
    return _BEGINS_LIKE_JSON.match(head) is not None


def begins_like_lines(head: str) -> bool:
    """Whether there are two lines at least, of which the first is a JSON object and the next one begins like one."""
    lines = [line for line in head.split("\n") if line.strip()][:2]
    if len(lines) < 2 or not lines[1].lstrip().startswith("{"):
        return False
    try:
        return isinstance(_DECODER.decode(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def json_line_rows(path: Path, field: str) -> Rows:
    """The rows of a file of JSON lines; blank lines are passed over. A wrong line is a RequestError."""
    return _texts(_json_lines(path), field, lambda number: f"--corpus text:{path}: line {number}")


def json_value_rows(path: Path, text: str, field: str) -> Rows:
    """The rows of one JSON array of objects, or of JSON objects one after the other.

    Raises NotRows where `text` is anything else, a RequestError where a row is wrong.
    """
    values = _json_values(text)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    elif len(values) == 1 and isinstance(values[0], dict) and field not in values[0]:
        raise NotRows("one JSON object")
    if not any(isinstance(value, dict) for value in values):
        raise NotRows(f"row 1 is no JSON object but {_KINDS[type(values[0])]}" if values else "an empty array")
    return _texts(enumerate(values, 1), field, lambda number: f"--corpus text:{path}: row {number}")


def has_field(rows: Iterable[Any], field: str) -> bool:
    """Whether any of the rows is an object with this field."""
    return any(isinstance(row, dict) and field in row for row in rows)


def first_rows(path: Path, text: str | None) -> list[Any]:
    """The first JSON values of a file of lines, or of its whole `text`."""
    if text is None:
        return [value for _, value in itertools.islice(_json_lines(path), _AHEAD)]
    values = _json_values(text)
    return values[0][:_AHEAD] if len(values) == 1 and isinstance(values[0], list) else values[:_AHEAD]


def parquet_rows(path: Path, field: str) -> Rows:
    """Yield (row number from 1, text of column `field`) of a parquet file; needs pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError(f"--corpus text:{path}: .parquet needs pyarrow; {brings('pyarrow')}") from None
    number = 0
    try:
        with opened(path) as content, pyarrow.parquet.ParquetFile(content) as file:
            _refuse_column(path, file.schema_arrow, field)
            for batch in file.iter_batches(columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield number, text
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(
            f"--corpus text:{path}: not a parquet file that can be read ({_first_line(error)})"
        ) from None


def _refuse_column(path: Path, schema: Any, field: str) -> None:
    """Raise a RequestError where the column is missing or holds no text; it names those that do."""
    of_text = [column.name for column in schema if _is_text(column.type)]
    instead = f"--text-field can name one of {', '.join(map(repr, of_text))}" if of_text else "no column holds text"
    if field not in schema.names:
        raise RequestError(f"--corpus text:{path}: no column {field!r}; {instead}")
    kind = schema.field(field).type
    if field in of_text:
        return
    what = {"null": "null in every row"}.get(str(kind), f"{kind}, not text")
    raise RequestError(f"--corpus text:{path}: column {field!r} is {what}; {instead}")


def _is_text(kind: Any) -> bool:
    """Whether a column's type is a string, plain, large, or by dictionary."""
    return "string" in str(getattr(kind, "value_type", kind)) and not str(kind).startswith(("list", "large_list"))


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    offset = 0
    with opened(path) as file:
        for number, content in enumerate(file, 1):
            line = decode(content, path, offset)
            offset += len(content)
            if line.strip():
                try:
                    yield number, _DECODER.decode(line)
                except (ValueError, RecursionError) as error:
                    raise RequestError(f"--corpus text:{path}: line {number} is not JSON ({_why(error)})") from None


def _json_values(text: str) -> list[Any]:
    """All JSON values of `text`, one after the other; else NotRows."""
    place, values = 0, []
    try:
        while place < len(text):
            space = re.compile(r"\s*").match(text, place)
            place = space.end() if space else place
            if place < len(text):
                value, place = _DECODER.raw_decode(text, place)
                values.append(value)
    except (ValueError, RecursionError) as error:
        raise NotRows(f"not JSON: {_why(error)}") from None
    return values


def _texts(rows: Iterable[tuple[int, Any]], field: str, where: Callable[[int], str]) -> Rows:
    rows = iter(rows)
    ahead = list(itertools.islice(rows, _AHEAD))
    usual = any(isinstance(row, dict) and isinstance(row.get(field), str) for _, row in ahead)
    for number, row in itertools.chain(ahead, rows):
        yield number, _text(row, field, where(number), usual)


def _text(row: Any, field: str, where: str, usual: bool) -> str | None:
    """The text of a row. `usual`: others hold text in this field, so that a row that does not is the odd one."""
    if not isinstance(row, dict):
        raise RequestError(f"{where} is no JSON object; one like {{{json.dumps(field)}: ...}} is needed")
    of_text = [name for name, value in row.items() if isinstance(value, str)]
    instead = f"it has no field that holds text; rows like {{{json.dumps(field)}: ...}} are needed"
    if usual:
        instead = "other rows have it: correct this one, or take it out"
    elif of_text:
        instead = f"--text-field can name one of {', '.join(map(repr, of_text))}"
    if field not in row:
        raise RequestError(f"{where} has no field {field!r}; {instead}")
    text = row[field]
    if text is None:
        return None
    if not isinstance(text, str):
        raise RequestError(f"{where}: field {field!r} holds no text but {_KINDS[type(text)]}; {instead}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{where}: field {field!r} holds half a surrogate pair, which is not text") from None
    return text


def _why(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
