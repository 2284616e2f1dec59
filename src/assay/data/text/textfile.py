"""Documents from one file: plain text, jsonl or parquet. Text is not changed, but a byte order mark is removed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.data.corpus import Document
from assay.errors import RequestError
from assay.extras import brings

PASSAGE_BYTES = 4_096
"""A passage ends at the first blank line after this many bytes."""
LONG_PASSAGE_BYTES = 16_384
"""A passage without such a blank line ends at the first end of a line after this many bytes."""

_SEPARATOR = re.compile(r"(?m)^[ \t]*<\|endoftext\|>[ \t]*\r?(?:\n|\Z)")
_LINE = re.compile(r"[^\n]{1,4096}[ \t\n]|[^\n]{1,4096}|\n")
"""A line. One that is too long (some texts are a single line) is matched in pieces, cut at a space where there is one.
"""


def read_text(path: Path) -> str:
    """The text of a file; one that is missing, binary or not UTF-8 is a RequestError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"--corpus text:{path}: {error.strerror}") from None
    return decode(content, path)


def decode(content: bytes, path: Path, start: int = 0) -> str:
    """`content`, which begins at byte `start` of `path`, as text, without a byte order mark at its beginning."""
    nul = content.find(b"\0")
    if nul >= 0:
        raise RequestError(f"--corpus text:{path}: a binary file (NUL at byte {start + nul}); UTF-8 text is needed")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        value = content[error.start]
        raise RequestError(
            f"--corpus text:{path}: not UTF-8 at byte {at} (0x{value:02x}); convert it to UTF-8"
        ) from None
    return text.removeprefix("\ufeff") if start == 0 else text


def parts(text: str) -> list[str]:
    """The parts of `text` between lines `<|endoftext|>`, blank ones left out; without such lines the whole text."""
    return [part for part in _SEPARATOR.split(text) if part.strip()]


def passages(text: str) -> list[str]:
    """Cut `text` at blank lines into passages of at least `PASSAGE_BYTES`; joined, they give the text again."""
    found: list[str] = []
    lines: list[str] = []
    size = 0
    whole_line = True
    for match in _LINE.finditer(text):
        line = match.group()
        lines.append(line)
        size += len(line) if line.isascii() else len(line.encode())
        blank = whole_line and not line.strip()
        whole_line = line.endswith("\n")
        if (blank and size >= PASSAGE_BYTES) or size >= LONG_PASSAGE_BYTES:
            found.append("".join(lines))
            lines, size = [], 0
    rest = "".join(lines)
    if size < PASSAGE_BYTES and found:
        found[-1] += rest
    elif rest:
        found.append(rest)
    return found


def jsonl_rows(path: Path, field: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, text of `field`) for each line of a jsonl file; blank lines are passed over."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, 1):
                line = decode(content, path, offset)
                offset += len(content)
                if line.strip():
                    yield number, _field_text(line, field, f"--corpus text:{path}: line {number}")
    except OSError as error:
        raise RequestError(f"--corpus text:{path}: {error.strerror}") from None


def _field_text(line: str, field: str, where: str) -> str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where} is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise RequestError(f"{where} is no JSON object; a line like {{{json.dumps(field)}: ...}} is needed")
    if field not in row:
        raise RequestError(f"{where} has no field {field!r}; --text-field can name one of {', '.join(map(repr, row))}")
    text = row[field]
    if not isinstance(text, str):
        raise RequestError(
            f"{where}: field {field!r} holds no text but {type(text).__name__}; name another --text-field"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{where}: field {field!r} holds half a surrogate pair, which is not text") from None
    return text


def parquet_rows(path: Path, field: str) -> Iterator[tuple[int, str]]:
    """Yield (row number from 1, text of column `field`) of a parquet file; needs pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError(f"--corpus text:{path}: .parquet needs pyarrow; {brings('pyarrow')}") from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if field not in columns:
                there_are = ", ".join(map(repr, columns))
                raise RequestError(
                    f"--corpus text:{path}: no column {field!r}; --text-field can name one of {there_are}"
                )
            for batch in file.iter_batches(columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(text, str):
                        raise RequestError(f"--corpus text:{path}: row {number}: column {field!r} holds no text")
                    yield number, text
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(
            f"--corpus text:{path}: not a parquet file that can be read ({_first_line(error)})"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def file_documents(path: Path, name: str, field: str, cut: bool) -> Iterator[Document]:
    """Yield the documents of one file, named `name` or `name:NUMBER`; `cut`: plain text is cut into passages."""
    if path.suffix.lower() in (".jsonl", ".parquet"):
        rows = jsonl_rows(path, field) if path.suffix.lower() == ".jsonl" else parquet_rows(path, field)
        for number, text in rows:
            yield Document(f"{name}:{number}", text)
        return
    text = read_text(path)
    pieces, source = parts(text), None
    if len(pieces) <= 1 and cut:
        pieces, source = passages(text), name
    for number, piece in enumerate(pieces, 1):
        yield Document(f"{name}:{number}" if len(pieces) > 1 else name, piece, source=source)
