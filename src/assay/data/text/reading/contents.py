"""The text of a file: decompressed, decoded, without byte order mark; what is no text is named by what it is."""

import bz2
import contextlib
import gzip
import importlib
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from assay.errors import RequestError

COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".lzma": "xz", ".zst": "zstd"}
"""Suffixes of compressed files; the suffix before tells what is inside."""

HEAD_BYTES = 65_536
"""As much of a file's beginning as is looked at to tell what it is."""

_COMPRESSIONS = (
    (rb"\x1f\x8b", "gzip"),
    (rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)", "bzip2"),
    (rb"\xfd7zXZ\x00|\x5d\x00\x00..\xff", "xz"),
    (rb"\x28\xb5\x2f\xfd", "zstd"),
)
_NO_TEXT = (
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"Rar!\x1a", "a rar archive"),
    (rb"(?s).{257}ustar", "a tar archive"),
    (rb"\x1f\x9d", "compressed by `compress`"),
    (rb"\x04\x22\x4d\x18", "compressed by lz4"),
    (rb"%PDF-", "a PDF"),
    (rb"\{\\rtf", "an RTF document"),
    (rb"%!PS", "PostScript"),
    (rb"\xd0\xcf\x11\xe0", "an old Office document"),
    (rb"ARROW1|\xff\xff\xff\xff", "an Arrow file"),
    (rb"SQLite format 3\x00", "an SQLite database"),
)
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
"""Byte order marks; those of UTF-32 first, since one of UTF-16 begins another."""

_Damaged = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def text_suffix(path: Path) -> str:
    """The suffix that tells what a file holds, in lower case: ".jsonl" of x.jsonl and of X.JSONL.gz."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return inner.suffix.lower()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The content of a file as UTF-8 or binary: gzip, bzip2 and xz (and zstd from Python 3.14 on) decompressed.

    UTF-16 and UTF-32 with a byte order mark are decoded. What cannot be read, also later on, is a RequestError.
    """
    compression = None
    try:
        with contextlib.ExitStack() as stack:
            file: BinaryIO = stack.enter_context(path.open("rb"))
            head = _head(file)
            compression = _named(head, _COMPRESSIONS)
            if compression is not None:
                file = stack.enter_context(_decompressed(file, compression, path))
                head = _head(file)
                again = _named(head, _COMPRESSIONS)
                if again is not None:
                    raise RequestError(f"--corpus text:{path}: compressed twice ({again} in {compression}); unpack it")
            what = _named(head, _NO_TEXT)
            if what is not None:
                inside = "" if compression is None else f" in {compression}"
                raise RequestError(f"--corpus text:{path}: {what}{inside}; UTF-8 text is needed")
            encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
            yield file if encoding is None else io.BytesIO(_decoded(file.read(), encoding, path).encode())
    except _Damaged as error:
        raise RequestError(
            f"--corpus text:{path}: its {compression or 'compressed'} data is damaged or cut off ({error})"
        ) from None
    except OSError as error:
        reason = error.strerror or f"its {compression or 'binary'} data is damaged ({error})"
        raise RequestError(f"--corpus text:{path}: {reason}") from None


def head_of(path: Path) -> bytes:
    """The first bytes of the content, as `opened` gives it."""
    with opened(path) as file:
        return file.read(HEAD_BYTES)


def read_text(path: Path) -> str:
    """The text of a file; one that is missing, binary or in an unknown encoding is a RequestError."""
    with opened(path) as file:
        return decode(file.read(), path)


def decode(content: bytes, path: Path, start: int = 0) -> str:
    """`content`, which begins at byte `start` of `path`, as text, without a byte order mark at its beginning."""
    nul = content.find(b"\0")
    if nul >= 0:
        what = f"a binary file (NUL at byte {start + nul})"
        if start == 0 and (encoding := _without_mark(content)) is not None:
            what = f"looks like {encoding} without a byte order mark"
        raise RequestError(f"--corpus text:{path}: {what}; UTF-8 text is needed")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        value = content[error.start]
        raise RequestError(
            f"--corpus text:{path}: not UTF-8 at byte {at} (0x{value:02x}); convert it to UTF-8"
        ) from None
    return text.removeprefix("\ufeff") if start == 0 else text


def _head(file: BinaryIO) -> bytes:
    head = file.read(512)
    file.seek(0)
    return head


def _named(head: bytes, known: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((name for pattern, name in known if re.match(pattern, head, re.DOTALL)), None)


def _decompressed(file: BinaryIO, compression: str, path: Path) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if compression == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(file))
    if compression == "xz":
        return cast(BinaryIO, lzma.LZMAFile(file))
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        raise RequestError(
            f"--corpus text:{path}: compressed by zstd, which Python reads from 3.14 on; `zstd -d FILE` unpacks it"
        ) from None
    unpacked: BinaryIO = zstd.ZstdFile(file)
    return unpacked


def _decoded(content: bytes, encoding: str, path: Path) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise RequestError(
            f"--corpus text:{path}: {encoding} by its byte order mark, and not valid from byte {error.start} on; "
            "convert it to UTF-8"
        ) from None


def _without_mark(content: bytes) -> str | None:
    """UTF-16 where most of the even or of the odd bytes are NUL, UTF-32 where three of four are, as in Latin text."""
    head = content[:HEAD_BYTES]
    often = [2 * head[place::4].count(0) > len(head[place::4]) for place in range(4)]
    if often in ([True, True, True, False], [False, True, True, True]):
        return "UTF-32"
    return "UTF-16" if often in ([True, False] * 2, [False, True] * 2) else None
