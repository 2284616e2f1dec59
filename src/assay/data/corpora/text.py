"""The corpus `text:PATH`: your own text, from a file, a folder or a glob of them."""

import contextlib
import glob
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.analysis.wording import counted
from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, DEFAULT_FIELD, SPLITS, CorpusSource, Document, Split, Tell
from assay.data.text.reading.contents import text_suffix
from assay.data.text.reading.given_splits import given_splits, is_split_file, split_by_another_name, unofficial
from assay.data.text.reading.rows import LINE_SUFFIXES
from assay.data.text.reading.shards import missing_shards
from assay.data.text.reading.textfile import SEPARATOR, Tally, file_documents, may_hold_rows
from assay.data.text.reading.walk import Found, walk
from assay.errors import RequestError

_PLAIN_SUFFIXES = """
    .txt .text .md .markdown .rst .org .adoc .tex .bib .log .csv .tsv .json .yaml .yml .toml .ini .cfg .xml
    .html .htm .xhtml .tei .svg .css .srt .vtt .py .pyi .ipynb .js .jsx .ts .tsx .c .h .cc .cpp .cxx .hpp .hh .cu .cuh
    .java .kt .scala .swift .go .rs .rb .php .pl .pm .lua .r .jl .hs .ml .mli .ex .exs .erl .clj .lisp .el .scm .sql .sh
    .bash .zsh .ps1 .bat .f90 .cs .fs .dart .zig .nim .v .sv .vhd .asm .s .cmake .proto .tf"""
TEXT_SUFFIXES = {".parquet", *LINE_SUFFIXES, *_PLAIN_SUFFIXES.split()}
"""Suffixes of the files in a folder that are read, compressed ones too (.txt.gz).

A single file, or files whose suffix a glob names, are always read.
"""

MOST_NAMED = 3
"""As many names as a line has, where there may be many."""

SHARE = 0.1
"""The share of `max_bytes` that official validation and test may take, each."""


@dataclass(frozen=True)
class _Files:
    """The files of a corpus, in order."""

    root: Path
    """The folder that documents' names are relative to."""
    paths: list[Path]
    split_of: dict[Path, Split]
    """Empty where there are no official splits."""
    single: bool

    def alone(self, path: Path) -> bool:
        """Whether the file is the whole corpus, or is itself called train, validation or test."""
        return self.single or (path in self.split_of and is_split_file(path.relative_to(self.root).as_posix()))


def read(config: DataConfig, argument: str, progress: Tell) -> Generator[Document, None, None]:
    """Yield the documents of the files in order of their paths; a file of a folder or glob is one document.

    What is passed over, dropped, or taken otherwise than it may be meant leaves a line.
    """
    files = _files(argument, progress)
    if config.text_field != DEFAULT_FIELD and not any(map(may_hold_rows, files.paths)):
        raise RequestError(
            f"--text-field {config.text_field}: {argument} holds no rows of JSON and no .parquet, leave it out"
        )
    tally, blank, count = Tally(), True, 0
    try:
        for document in _documents(config, argument, files, tally):
            blank = blank and not document.text.strip()
            count += 1
            yield document
    finally:
        for line in _told(tally, argument):
            progress(line)
    if count == len(files.paths) == 1 and not files.single:
        progress(f"{argument} has one file, which is one document; text:{files.paths[0]} would cut it into passages")
    if blank and tally.null_rows:
        raise RequestError(
            f"--corpus text:{argument}: field {config.text_field!r} is null in all {tally.null_rows} rows; another "
            "--text-field would do"
        )
    if blank:
        raise RequestError(f"--corpus text:{argument}: empty; a text of some kilobytes is needed")


def _documents(config: DataConfig, argument: str, files: _Files, tally: Tally) -> Iterator[Document]:
    """All documents, with official splits each up to its share of `max_bytes`."""
    left = _shares(config.max_bytes, set(files.split_of.values()))
    full: set[Split] = set()
    taken: set[Split] = set()
    for path in files.paths:
        name, split = path.relative_to(files.root).as_posix(), files.split_of.get(path)
        if split is not None and split in full:
            continue
        with contextlib.closing(file_documents(path, name, config.text_field, files.alone(path), tally)) as documents:
            for document in documents:
                if split is None:
                    yield document
                    continue
                left[split] -= len(document.text.encode())
                if left[split] < 0:
                    full.add(split)
                    break
                if document.text.strip():
                    taken.add(split)
                yield replace(document, split=split)
    for split in SPLITS:
        if split in full - taken:
            raise RequestError(
                f"--max-bytes {config.max_bytes}: the first document of the {split} split of {argument} is longer than "
                "its share; a larger number would do"
            )
        if split in {*files.split_of.values()} - taken:
            raise RequestError(
                f"--corpus text:{argument}: its {split} split holds no text; without its files it is made"
            )


def _shares(max_bytes: int | None, splits: set[Split]) -> dict[Split, float]:
    """{split: bytes that it may take}."""
    if max_bytes is None:
        return dict.fromkeys(splits, float("inf"))
    held_out = dict.fromkeys(splits - {"train"}, SHARE)
    shares: dict[Split, float] = {**held_out, "train": 1 - sum(held_out.values())}
    return {split: int(share * max_bytes) for split, share in shares.items()}


def _told(tally: Tally, argument: str) -> Iterator[str]:
    """The lines about what was met in the files."""
    if tally.null_rows:
        yield f"dropped from {argument}: {tally.null_rows:,} of {counted(tally.rows, 'row')}, whose text is null"
    if tally.blank:
        yield f"dropped from {argument}: {counted(tally.blank, 'document')}, empty or blank"
    if tally.separators_inside:
        yield (
            f"{SEPARATOR} stands {counted(tally.separators_inside, 'time')} inside lines or rows of {argument}, where "
            "it is text and separates nothing: documents are separated by lines of it alone"
        )
    if tally.plain:
        more = "" if len(tally.plain) == 1 else f" (and {len(tally.plain) - 1:,} more)"
        yield (
            f"{argument}: taken as plain text, braces and separators included, although it begins like JSON or is a "
            f"table: {tally.plain[0]}{more}; rows are JSON objects with the field of --text-field"
        )


def _files(argument: str, progress: Tell) -> _Files:
    path = Path(os.path.expanduser(argument))
    if os.path.isfile(path):  # unlike Path.is_file, False (and no exception) without permission to look
        beside = _splits_beside(path)
        if beside:
            progress(
                f"not read beside {argument}: {', '.join(beside)}; text:{path.parent} reads all as official splits"
            )
        return _Files(path.parent, [path], {}, single=True)
    if not os.path.isdir(path) and not glob.has_magic(argument):
        if os.path.lexists(path):
            raise RequestError(f"--corpus text:{argument}: neither a file nor a folder that can be read")
        raise RequestError(f"--corpus text:{argument}: no such file or folder")
    found = walk(path)
    named = None if os.path.isdir(path) else path.suffix

    def is_text(file: Path) -> bool:
        return text_suffix(file) in TEXT_SUFFIXES or file.suffix == (named or None) or is_split_file(file.name)

    links = {target: alias for alias, target in sorted(found.again.items(), reverse=True) if is_text(alias)}
    met = [file if is_text(file) else links.get(file, file) for file in found.files]
    by_links = len(set(met) - set(found.files))
    files = sorted(filter(is_text, met), key=lambda file: file.as_posix())
    root = path
    if named is not None and files:
        root = Path(os.path.commonpath([file.parent for file in files]))
    names = {file.relative_to(root).as_posix(): file for file in files}
    _refuse_two_names(argument, root, names, found)
    split_of = {names[name]: split for name, split in given_splits(names).items()}
    in_splits = [file for file in files if file in split_of] if split_of else files
    passed_over = [
        (len(found.files) - len(files), "file", " whose suffix is not that of a text"),
        (len(files) - len(in_splits), "file", " in no split beside the official ones"),
        (len(found.hidden), "hidden name", ""),
        (len(found.again) - by_links, "link", " to what is read already"),
        (len(found.broken), "dead link", ""),
        (found.special, "special file", " (pipe, socket or device)"),
    ]
    if reasons := [counted(count, noun) + reason for count, noun, reason in passed_over if count]:
        progress(f"passed over in {argument}: {', '.join(reasons)}")
    if not files:
        raise RequestError(
            f"--corpus text:{argument}: {_nothing(found)}; .txt, .jsonl, .md, .py and their like would do"
        )
    for line in _told_of_names(argument, root, names, split_of):
        progress(line)
    return _Files(root, in_splits, split_of, single=False)


def _refuse_two_names(argument: str, root: Path, names: Mapping[str, Path], found: Found) -> None:
    """Raise a RequestError where a link that is passed over is called like another split than what it leads to."""
    further = {
        alias.relative_to(root).as_posix(): target.relative_to(root).as_posix()
        for alias, target in found.again.items()
        if alias.is_relative_to(root) and target.is_relative_to(root)
    }
    if (two := split_by_another_name(names, further)) is not None:
        raise RequestError(
            f"--corpus text:{argument}: {two[0]} and {two[1]} are one text under two names, which would put it into "
            "two splits or none; a folder where it has one of these names would do"
        )


def _told_of_names(
    argument: str, root: Path, names: Mapping[str, Path], split_of: Mapping[Path, Split]
) -> Iterator[str]:
    """Lines about names that promise something else than is read."""
    if missing := missing_shards(names):
        more = "" if len(missing) == 1 else f" and {len(missing) - 1:,} more"
        yield f"not there in {argument}, by the numbers of the others: {missing[0]}{more}"
    called, place = ([], None) if split_of else unofficial(names)
    if called:
        more = "" if len(called) <= MOST_NAMED else f" and {len(called) - MOST_NAMED:,} more"
        advice = "" if place is None else f"; text:{root / place} reads those"
        yield (
            f"read like any other text in {argument}: {', '.join(called[:MOST_NAMED])}{more}; official splits are "
            f"train and validation or test, in one place and with the same words before them{advice}"
        )


def _splits_beside(path: Path) -> list[str]:
    """The other files that are official splits together with this one, by their names."""
    try:
        names = [name for name in os.listdir(path.parent) if os.path.isfile(path.parent / name)]
    except OSError:
        return []
    splits = given_splits(sorted(names))
    return [name for name in splits if name != path.name] if path.name in splits else []


def _nothing(found: Found) -> str:
    return f"{counted(len(found.files), 'file')}, none with the suffix of a text" if found.files else "no files"


CORPORA.register(
    "text",
    CorpusSource(
        name="text",
        description="your text: a .txt (in passages), rows of JSON or parquet, or a folder or glob of text files",
        citation="whatever holds for the text",
        read=read,
        argument="PATH",
        has_fields=True,
    ),
)
