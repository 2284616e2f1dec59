"""The interface of a corpus: a named source of documents, found by a registry."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from assay.data.config import DataConfig
from assay.errors import RequestError
from assay.registry import Registry

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Tell = Callable[[str], None]
"""A function that shows one line of progress to the user."""

DEFAULT_FIELD = "text"


def silent(line: str) -> None:
    """Progress that is shown to nobody."""


@dataclass(frozen=True)
class Document:
    """A text that stays whole: no split cuts it, and no window or duplicate check spans two documents."""

    name: str
    text: str
    split: Split | None = None
    """The official split, where the corpus has one."""
    source: str | None = None
    """What it was cut from or belongs to; documents of one source tell less than as many of different ones. None: it is
    a source of its own."""


@dataclass(frozen=True)
class CorpusSource:
    """A named source of documents; `read(config, argument, progress)` yields them in a fixed order."""

    name: str
    description: str
    citation: str
    """Where the text is from and under which licence."""
    read: Callable[[DataConfig, str, Tell], Iterator[Document]]
    argument: str | None = None
    """What `name:ARGUMENT` stands for, as in "PATH"; None where the name is enough."""
    has_fields: bool = False
    """Whether `--text-field` means anything here."""
    identity: Callable[[DataConfig, str], str] | None = None
    """Returns a text that identifies a remote corpus without reading it; None: its content is hashed."""

    def documents(self, config: DataConfig, argument: str, progress: Tell = silent) -> Iterator[Document]:
        """Yield the documents; what cannot be read is a RequestError."""
        return self.read(config, argument, progress)


CORPORA: Registry[CorpusSource] = Registry("corpus", "assay.data.corpora", group="assay.corpora")


def find_corpus(config: DataConfig) -> tuple[CorpusSource, str]:
    """Return the source that `config.corpus` names and its argument ("" where it takes none)."""
    name, colon, argument = config.corpus.partition(":")
    if name not in CORPORA.names() and os.path.exists(config.corpus):
        raise RequestError(f"--corpus {config.corpus}: a path; --corpus text:{config.corpus} reads it")
    try:
        source = CORPORA.get(name)
    except RequestError as error:
        raise RequestError(f"--corpus {config.corpus}: {error}") from None
    if source.argument is None and colon:
        raise RequestError(f"--corpus {config.corpus}: {name} takes nothing after the colon; --corpus {name} would do")
    if source.argument is not None and not argument:
        raise RequestError(f"--corpus {config.corpus}: a path is missing; --corpus {name}:{source.argument} would do")
    if config.text_field != DEFAULT_FIELD and not source.has_fields:
        raise RequestError(f"--text-field {config.text_field}: corpus {name!r} has no fields; leave the option out")
    return source, argument


def read_documents(config: DataConfig, progress: Tell) -> list[Document]:
    """All documents of the corpus, in order, as many as `max_bytes` allows."""
    source, argument = find_corpus(config)
    documents: list[Document] = []
    left = config.max_bytes
    for document in source.documents(config, argument, progress):
        if left is not None:
            left -= len(document.text.encode())
            if left < 0:
                break
        documents.append(document)
    if not documents and config.max_bytes is not None:
        raise RequestError(f"--max-bytes {config.max_bytes}: the first document is longer; a larger number would do")
    return documents
