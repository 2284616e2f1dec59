"""Documents from one file: passages or parts of plain text, rows of JSON or parquet. Text is not changed."""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assay.data.corpus import Document
from assay.data.text.reading.contents import decode, head_of, opened, read_text, text_suffix
from assay.data.text.reading.rows import (
    LINE_SUFFIXES,
    NotRows,
    Rows,
    begins_like_json,
    begins_like_lines,
    first_rows,
    has_field,
    json_line_rows,
    json_value_rows,
    parquet_rows,
)
from assay.errors import RequestError

PASSAGE_BYTES = 4_096
"""A passage ends at the first blank line after this many bytes."""
LONG_PASSAGE_BYTES = 16_384
"""A passage without such a blank line ends at the first end of a line after this many bytes."""

SEPARATOR = "<|endoftext|>"
_SEPARATOR_LINE = re.compile(r"(?m)^[ \t]*<\|endoftext\|>[ \t]*\r?(?:\n|\Z)")
_LINE = re.compile(r"[^\n]{1,4096}[ \t\n]|[^\n]{1,4096}|\n")
"""A line. One that is too long (some texts are a single line) is matched in pieces, cut at a space where there is one.
"""


@dataclass
class Tally:
    """What is met in files and leaves a line, so that nothing is left out or taken otherwise in silence."""

    rows: int = 0
    """Rows of JSON and parquet."""
    null_rows: int = 0
    blank: int = 0
    """Documents without text, and files without any."""
    separators_inside: int = 0
    """`<|endoftext|>` within documents, which separate nothing."""
    plain: list[str] = field(default_factory=list)
    """Files that begin like JSON or are a table, and are taken as plain text."""


def parts(text: str) -> list[str]:
    """The parts of `text` between lines `<|endoftext|>`, blank ones left out; without such lines the whole text."""
    return [part for part in _SEPARATOR_LINE.split(text) if part.strip()]


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


def file_documents(
    path: Path, name: str, text_field: str, alone: bool, tally: Tally
) -> Generator[Document, None, None]:
    """Yield the documents of one file, named `name` or `name:NUMBER`.

    `alone`: the file is a whole corpus or a whole split. So its plain text is cut into passages, and JSON without the
    field is a RequestError; in a folder of files it is plain text and counted in `tally`.
    """
    rows = _rows(path, name, text_field, alone, tally)
    if rows is not None:
        for number, row in rows:
            tally.rows += 1
            if row is None:
                tally.null_rows += 1
            else:
                yield from _counted([Document(f"{name}:{number}", row)], tally)
        return
    if text_suffix(path) in (".csv", ".tsv"):
        tally.plain.append(name)
    text = read_text(path)
    pieces, source = parts(text), None
    tally.blank += not pieces
    if len(pieces) <= 1 and alone:
        pieces, source = passages(text) if pieces else [], name
    names = [f"{name}:{number}" if len(pieces) > 1 else name for number in range(1, len(pieces) + 1)]
    yield from _counted([Document(*each, source=source) for each in zip(names, pieces, strict=True)], tally)


def may_hold_rows(path: Path) -> bool:
    """Whether a file is parquet or begins like JSON, so that a field of it can be named."""
    head = head_of(path)
    suffix = text_suffix(path)
    return suffix in {".parquet", *LINE_SUFFIXES} or head.startswith(b"PAR1") or begins_like_json(_start(head))


def _counted(documents: list[Document], tally: Tally) -> Iterator[Document]:
    for document in documents:
        tally.blank += not document.text.strip()
        tally.separators_inside += document.text.count(SEPARATOR)
        yield document


def _rows(path: Path, name: str, text_field: str, alone: bool, tally: Tally) -> Rows | None:
    """The rows of a file, whatever its name; None where it is plain text."""
    head, suffix = head_of(path), text_suffix(path)
    if suffix == ".parquet" or head.startswith(b"PAR1"):
        return parquet_rows(path, text_field)
    start = _start(head)
    if not start.strip():
        return None
    promised = suffix in LINE_SUFFIXES
    if not promised and suffix != ".json" and not begins_like_json(start):
        return None
    whole = None
    if not (begins_like_lines(start) or (promised and not _begins_with_several_lines(start))):
        with opened(path) as file:
            whole = decode(file.read(), path)
    try:
        if not promised and not alone and not has_field(first_rows(path, whole), text_field):
            raise NotRows("no such field")
        return json_line_rows(path, text_field) if whole is None else json_value_rows(path, whole, text_field)
    except NotRows as error:
        if promised or (alone and suffix == ".json" and str(error).startswith("not JSON")):
            raise RequestError(f"--corpus text:{path}: holds no rows ({error}); JSON objects would do") from None
        tally.plain.append(name)
        return None


def _start(head: bytes) -> str:
    return head.decode("utf-8", errors="ignore").removeprefix("\ufeff")


def _begins_with_several_lines(start: str) -> bool:
    """Whether the first JSON value is an array, or an object that goes on in the next line."""
    return start.lstrip().startswith("[") or start.lstrip().partition("\n")[0].strip() == "{"
