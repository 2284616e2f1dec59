"""Corpora by name from the Hugging Face hub, streamed: wikitext-2, wikitext-103, tinystories."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA, CorpusSource, Document, Split, Tell
from assay.errors import RequestError
from assay.extras import brings

WITHOUT = "--corpus stdlib or --corpus text:PATH works without"

_HEADING = re.compile(r" = (?!= ).+(?<! =) = \n?")
"""A top-level heading of WikiText, " = Title = "; deeper ones have more equals signs on each side."""


@dataclass(frozen=True)
class HubDataset:
    """A corpus on the hub: where it lies, and which share of `max_bytes` each of its splits may take."""

    name: str
    repository: str
    subset: str | None
    shares: dict[Split, float]
    articles: bool
    """Whether rows are lines that must be joined into articles; otherwise each row is a document."""

    def read(self, config: DataConfig, argument: str, progress: Tell) -> Iterator[Document]:
        """Stream the official splits, validation and test first, each up to its share of `max_bytes`."""
        for split, share in self.shares.items():
            left = None if config.max_bytes is None else int(share * config.max_bytes)
            progress(f"{self.name}: streaming {split} from the hub")
            rows = self._rows(split)
            for number, text in enumerate(join_articles(rows) if self.articles else rows, 1):
                if left is not None:
                    left -= len(text.encode())
                    if left < 0:
                        break
                yield Document(f"{split}:{number}", text, split)

    def identity(self, config: DataConfig, argument: str) -> str:
        """A text that identifies the content without reading it, so that a cached corpus needs no network."""
        return f"hub:{self.repository}:{self.subset}:{config.max_bytes}"

    def _rows(self, split: Split) -> Iterator[str]:
        try:
            import datasets
        except ImportError:
            raise RequestError(
                f"--corpus {self.name}: the package datasets is missing; {brings('datasets')}, {WITHOUT}"
            ) from None
        # The network can fail with many kinds of exceptions; to the user all of them mean that the hub cannot be read.
        try:
            rows: Iterable[Any] = datasets.load_dataset(self.repository, self.subset, split=split, streaming=True)
            iterator = iter(rows)
            while (row := next(iterator, None)) is not None:
                yield row["text"]
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise RequestError(
                f"--corpus {self.name}: the hub cannot be read ({type(error).__name__}: {reason}); {WITHOUT} a network"
            ) from None


def join_articles(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of WikiText into articles, each from its top-level heading to the next."""
    article: list[str] = []
    for line in lines:
        if _HEADING.fullmatch(line) and any(part.strip() for part in article):
            yield "".join(article)
            article = []
        article.append(line)
    if article:
        yield "".join(article)


_WIKITEXT_SHARES: dict[Split, float] = {"validation": 0.1, "test": 0.1, "train": 0.8}

for _dataset, _description, _citation in (
    (
        HubDataset("wikitext-2", "Salesforce/wikitext", "wikitext-2-raw-v1", _WIKITEXT_SHARES, articles=True),
        "720 Wikipedia articles, 13 MB, raw text, official splits",
        "Merity et al. 2017, arXiv:1609.07843; CC BY-SA 3.0 and GFDL",
    ),
    (
        HubDataset("wikitext-103", "Salesforce/wikitext", "wikitext-103-raw-v1", _WIKITEXT_SHARES, articles=True),
        "28,600 Wikipedia articles, 540 MB, raw text, official splits; --max-bytes caps it",
        "Merity et al. 2017, arXiv:1609.07843; CC BY-SA 3.0 and GFDL",
    ),
    (
        HubDataset("tinystories", "roneneldan/TinyStories", None, {"validation": 0.1, "train": 0.9}, articles=False),
        "2.1 million short stories written by GPT-3.5 and GPT-4, 1.9 GB; test is made from train; --max-bytes caps it",
        "Eldan and Li 2023, arXiv:2305.07759; CDLA-Sharing-1.0",
    ),
):
    CORPORA.register(
        _dataset.name,
        CorpusSource(_dataset.name, _description, _citation, read=_dataset.read, identity=_dataset.identity),
    )
