"""The corpus `text:PATH`: your own text, from a file, a folder or a glob of them."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, DEFAULT_FIELD, CorpusSource, Document, Tell
from assay.data.text.textfile import file_documents
from assay.errors import RequestError

ROW_SUFFIXES = {".jsonl", ".parquet"}
_PLAIN_SUFFIXES = """
    .txt .text .md .markdown .rst .org .adoc .tex .bib .log .csv .tsv .json .yaml .yml .toml .ini .cfg .xml
    .html .htm .xhtml .tei .svg .css .srt .vtt .py .pyi .ipynb .js .jsx .ts .tsx .c .h .cc .cpp .cxx .hpp .hh .cu .cuh
    .java .kt .scala .swift .go .rs .rb .php .pl .pm .lua .r .jl .hs .ml .mli .ex .exs .erl .clj .lisp .el .scm .sql .sh
    .bash .zsh .ps1 .bat .f90 .cs .fs .dart .zig .nim .v .sv .vhd .asm .s .cmake .proto .tf"""
TEXT_SUFFIXES = ROW_SUFFIXES | set(_PLAIN_SUFFIXES.split())
"""Suffixes of the files in a folder that are read. A single file, or files whose suffix a glob names, are always read.
"""


def read(config: DataConfig, argument: str, progress: Tell) -> Iterator[Document]:
    """Yield the documents of the files in order of their paths; a file of a folder or glob is one document."""
    path = Path(argument).expanduser()
    single = os.path.isfile(path)  # unlike Path.is_file, False (and no exception) without permission to look
    root, files, skipped = (path.parent, [path], 0) if single else _find(path, argument)
    if skipped:
        progress(f"{skipped} files of {argument} are passed over: their suffixes are not those of text")
    if config.text_field != DEFAULT_FIELD and not any(file.suffix.lower() in ROW_SUFFIXES for file in files):
        raise RequestError(
            f"--text-field {config.text_field}: {argument} holds no .jsonl and no .parquet, leave it out"
        )
    blank = True
    for file in files:
        name = file.relative_to(root).as_posix()
        for document in file_documents(file, name, config.text_field, cut=single):
            blank = blank and not document.text.strip()
            yield document
    if blank:
        raise RequestError(f"--corpus text:{argument}: empty; a text of some kilobytes is needed")


def _find(path: Path, argument: str) -> tuple[Path, list[Path], int]:
    """(folder that documents' names are relative to, files to read, sorted, number of files left out)."""
    if os.path.isdir(path):
        root, found, named = path, list(_walk(path)), ""
    elif glob.has_magic(argument):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        found = [file for match in matches for file in (_walk(match) if os.path.isdir(match) else [match])]
        root = Path(os.path.commonpath([file.parent for file in found])) if found else path
        named = path.suffix
    elif os.path.lexists(path):
        raise RequestError(f"--corpus text:{argument}: neither a file nor a folder that can be read")
    else:
        raise RequestError(f"--corpus text:{argument}: no such file or folder")
    found = sorted(set(found), key=lambda file: file.relative_to(root).as_posix())
    files = [file for file in found if file.suffix.lower() in TEXT_SUFFIXES or (named and file.suffix == named)]
    if not files:
        there_are = f"{len(found)} files, none of which has the suffix of a text" if found else "no files"
        raise RequestError(f"--corpus text:{argument}: {there_are}; .txt, .jsonl, .md, .py and their like would do")
    return root, files, len(found) - len(files)


def _walk(folder: Path) -> Iterator[Path]:
    """Files under `folder`; hidden ones are left out."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in files:
            if not name.startswith("."):
                yield Path(place, name)


def _unreadable(error: OSError) -> None:
    raise RequestError(f"--corpus text:{error.filename}: {error.strerror}")


CORPORA.register(
    "text",
    CorpusSource(
        name="text",
        description="your text: a .txt (in passages), a .jsonl, a .parquet, or a folder or glob of text files",
        citation="whatever holds for the text",
        read=read,
        argument="PATH",
        has_fields=True,
    ),
)
