"""The corpus `headers`: C++ that lies on every machine with torch, the headers of its core."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, CorpusSource, Document, Tell
from assay.errors import RequestError

FOLDER = "include/c10"


def read(_config: DataConfig, _argument: str, _progress: Tell) -> Iterator[Document]:
    """Yield each header as a document, in the order of paths; torch is looked for and not imported."""
    found = importlib.util.find_spec("torch")
    root = Path(found.origin if found and found.origin else "", "..", FOLDER).resolve()
    paths = sorted(root.rglob("*.h"), key=lambda path: path.relative_to(root).as_posix())
    if not paths:
        raise RequestError("--corpus headers: no torch with its headers here; --corpus stdlib would do")
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        yield Document(path.relative_to(root).as_posix(), text.replace("\r\n", "\n"))


CORPORA.register(
    "headers",
    CorpusSource(
        name="headers",
        description="C++ headers of the installed torch (its folder c10), about 1.7 MB",
        citation="PyTorch contributors, BSD-3-Clause",
        read=read,
    ),
)
