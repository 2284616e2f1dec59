"""Documents as token ids, which the cache stores and from which batches and scoring windows are cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.corpus import SPLITS, Document, Split
from assay.data.text.tokenizer import Tokenizer

Ids = NDArray[np.uint16] | NDArray[np.uint32]

_BATCH_BYTES = 4_000_000


@dataclass(frozen=True)
class TokenizedSplit:
    """The documents of one split, each as BOS + tokens + EOS, one after the other."""

    ids: Ids
    """[n_tokens], uint16 where the vocabulary allows; a memory map where the corpus is cached."""
    starts: NDArray[np.int64]
    """[n_documents + 1]: document i is ids[starts[i] : starts[i + 1]]."""
    document_bytes: NDArray[np.int64]
    """[n_documents]: UTF-8 bytes of each text."""
    names: list[str]
    sources: NDArray[np.int64]
    """[n_documents]: the number of the source that each is from."""


@dataclass(frozen=True)
class SplitCounts:
    """Counts from splitting the documents: duplicates dropped and near-duplicates kept together."""

    duplicates_dropped: int
    near_duplicate_clusters: int
    official: bool


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus, split and tokenised once."""

    name: str
    digest: str
    """SHA-256 of tokenizer and tokens; equal digests mean equal batches."""
    tokenizer: Tokenizer
    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    counts: SplitCounts
    invertible: bool
    """Whether decoding gave every text back and `token_bytes` adds up to its bytes; else no bits per byte."""

    def split(self, name: Split) -> TokenizedSplit:
        """The split of this name."""
        split: TokenizedSplit = getattr(self, name)
        return split

    def summary(self) -> dict[str, Any]:
        """What a report says of the corpus: documents, tokens and bytes by split, duplicates, the tokenizer."""
        splits = {
            name: {
                "documents": len(split.document_bytes),
                "tokens": len(split.ids),
                "bytes": int(split.document_bytes.sum()),
            }
            for name in SPLITS
            for split in [self.split(name)]
        }
        return {
            "name": self.name,
            "digest": self.digest,
            "splits": splits,
            "official_splits": self.counts.official,
            "duplicates_dropped": self.counts.duplicates_dropped,
            "near_duplicate_clusters": self.counts.near_duplicate_clusters,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "digest": self.tokenizer.digest,
            },
            "invertible": self.invertible,
        }


def id_dtype(vocab_size: int) -> str:
    """The smallest little-endian type that holds every id."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def tokenize(documents: Sequence[Document], tokenizer: Tokenizer) -> tuple[TokenizedSplit, bool]:
    """(`documents` encoded, whether decoding gave every one of them back; see `invertible`)."""
    dtype = id_dtype(tokenizer.vocab_size)
    pieces: list[NDArray[Any]] = []
    document_bytes: list[int] = []
    bos, eos = np.array([tokenizer.bos], dtype), np.array([tokenizer.eos], dtype)
    invertible = True
    for texts in _batches(documents):
        encoded = tokenizer.encode_batch(texts)
        invertible = invertible and tokenizer.decode_batch(encoded) == texts
        pieces += [np.concatenate([bos, np.array(ids, dtype), eos]) for ids in encoded]
        document_bytes += [len(text.encode()) for text in texts]
    ids = np.concatenate(pieces)
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    names = [each.name for each in documents]
    split = TokenizedSplit(ids, starts, np.array(document_bytes, np.int64), names, source_numbers(documents))
    counted = np.add.reduceat(tokenizer.token_bytes[ids], starts[:-1])
    return split, invertible and bool(np.array_equal(counted, split.document_bytes))


def source_numbers(documents: Sequence[Document]) -> NDArray[np.int64]:
    """[n_documents]: numbers of sources, in the order in which they first occur; without one a document is its own."""
    numbers: dict[str | int, int] = {}
    found = [
        numbers.setdefault(index if each.source is None else each.source, len(numbers))
        for index, each in enumerate(documents)
    ]
    return np.array(found, np.int64)


def _batches(documents: Sequence[Document]) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for document in documents:
        texts.append(document.text)
        size += len(document.text)
        if size >= _BATCH_BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts
