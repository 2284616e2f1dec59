"""The corpus `stdlib`: the Python sources of the running interpreter's standard library."""

import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, CorpusSource, Document, Tell
from assay.errors import RequestError

LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
}
"""Folders that are left out: tests, tables, stand-alone programs, and what is not the standard library."""

GENERATED = ("_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize")
"""Modules that are left out as they differ between machines with the same version of Python."""


def read(_config: DataConfig, _argument: str, _progress: Tell) -> Iterator[Document]:
    """Yield each source file as a document, in the order of paths, with LF as newlines everywhere.

    The files of a package are of one source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(_sources(root), key=lambda path: path.relative_to(root).as_posix())
    if not paths:
        raise RequestError(f"--corpus stdlib: no Python sources in {root}; --corpus text:PATH reads a text of yours")
    for path in paths:
        inside = path.relative_to(root)
        text = importlib.util.decode_source(path.read_bytes())
        yield Document(inside.as_posix(), text, source=inside.parts[0])


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        for name in files:
            if name.endswith(".py") and not name.startswith(GENERATED):
                yield Path(folder, name)


CORPORA.register(
    "stdlib",
    CorpusSource(
        name="stdlib",
        description="Python sources of the running interpreter's standard library, about 9 MB, without tests",
        citation="Python Software Foundation, PSF License Version 2",
        read=read,
    ),
)
