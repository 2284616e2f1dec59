"""The corpus `manual`: the reference of the Python language in English, as `help()` shows it."""

import importlib
from collections.abc import Iterator

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, CorpusSource, Document, Tell
from assay.errors import RequestError

MODULE = "pydoc_data.topics"


def read(_config: DataConfig, _argument: str, _progress: Tell) -> Iterator[Document]:
    """Yield each topic as a document, by name; a Python that was installed without them is a RequestError."""
    try:
        topics: dict[str, str] = importlib.import_module(MODULE).topics
    except ImportError:
        raise RequestError(f"--corpus manual: this Python has no {MODULE}; --corpus stdlib would do") from None
    for name, text in sorted(topics.items()):
        yield Document(name, text)


CORPORA.register(
    "manual",
    CorpusSource(
        name="manual",
        description="reference of the Python language in English, about 0.5 MB, as `help()` shows it",
        citation="Python Software Foundation, PSF License Version 2",
        read=read,
    ),
)
