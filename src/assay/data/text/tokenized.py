"""Documents as token ids, which the cache stores and from which batches and scoring windows are cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.analysis.wording import counted
from assay.data.corpus import SPLITS, Document, Split
from assay.data.text.tokenizer import Tokenizer
from assay.errors import RequestError

Ids = NDArray[np.uint16] | NDArray[np.uint32]

_BATCH_BYTES = 4_000_000
_ENCODED_TWICE = 100_000
"""Characters of each split that are encoded a second time, to see that nothing is drawn."""


LARGE_DOCUMENT = 1 / 3
"""The share of a split's bytes from which a document is told of."""


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
    token_bytes: NDArray[np.uint32] | None = None
    """[n_tokens]: bytes of text that each token stands for, 0 for BOS and EOS; None where the vocabulary tells them."""


@dataclass(frozen=True)
class SplitCounts:
    """Counts from splitting the documents: duplicates dropped and near-duplicates kept together."""

    duplicates_dropped: int
    near_duplicate_clusters: int
    official: bool
    made: tuple[Split, ...] = ()
    """The splits that the corpus does not have by itself."""


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
    """Whether decoding gave every text back; else no bits per byte."""

    def split(self, name: Split) -> TokenizedSplit:
        """The split of this name."""
        split: TokenizedSplit = getattr(self, name)
        return split

    def description(self) -> list[str]:
        """Lines for the user: documents and bytes of each split, where one rests on one document, and what it lacks."""
        sizes = [
            f"{name} {counted(len(split.names), 'document')} of {int(split.document_bytes.sum()):,} bytes"
            for name in SPLITS
            for split in [self.split(name)]
        ]
        found = [f"{self.name}: {', '.join(sizes)}{self._how_split()}"]
        for name in SPLITS:
            sizes_of = self.split(name).document_bytes
            share = sizes_of.max() / sizes_of.sum()
            if share > LARGE_DOCUMENT:
                largest = self.split(name).names[int(sizes_of.argmax())]
                found.append(f"{largest} alone is {share:.0%} of {name}: what is found there speaks of few documents")
        if not self.invertible:
            found.append(f"{self.tokenizer.name} does not give every text back: no bits per byte")
        return found

    def _how_split(self) -> str:
        """What is told of the splits behind their sizes."""
        notes = ["official splits"] if self.counts.official else []
        notes += (
            [f"{' and '.join(self.counts.made)} made from train"] if self.counts.official and self.counts.made else []
        )
        if self.counts.duplicates_dropped:
            notes.append(f"{counted(self.counts.duplicates_dropped, 'exact duplicate')} dropped")
        return f" ({', '.join(notes)})" if notes else ""

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


def tokenize(documents: Sequence[Document], tokenizer: Tokenizer) -> tuple[TokenizedSplit, list[str]]:
    """(`documents` encoded, the names of those that decoding did not give back).

    A tokenizer that encodes a text otherwise the second time is a RequestError.
    """
    dtype = id_dtype(tokenizer.vocab_size)
    pieces: list[NDArray[Any]] = []
    document_bytes: list[int] = []
    bos, eos = np.array([tokenizer.bos], dtype), np.array([tokenizer.eos], dtype)
    lost: list[str] = []
    for batch in _batches(documents):
        texts = [each.text for each in batch]
        encoded = tokenizer.encode_batch(texts)
        if not pieces:
            _refuse_draws(tokenizer, texts, encoded)
        back = tokenizer.decode_batch(encoded)
        lost += [each.name for each, text in zip(batch, back, strict=True) if text != each.text]
        pieces += [np.concatenate([bos, np.array(ids, dtype), eos]) for ids in encoded]
        document_bytes += [len(text.encode()) for text in texts]
    ids = np.concatenate(pieces)
    if len(ids) == 2 * len(pieces):
        raise RequestError(
            f"--tokenizer {tokenizer.name}: gives no token for any document, as its vocabulary has none of their "
            "letters; another one would do"
        )
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    names = [each.name for each in documents]
    split = TokenizedSplit(ids, starts, np.array(document_bytes, np.int64), names, source_numbers(documents))
    counted = np.add.reduceat(tokenizer.token_bytes[ids], starts[:-1])
    if not lost and not np.array_equal(counted, split.document_bytes):
        split = replace(split, token_bytes=_token_bytes(documents, tokenizer))
    return split, lost


def _refuse_draws(tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> None:
    """Raise a RequestError where some of the texts are encoded otherwise now."""
    size = np.cumsum([len(text) for text in texts])
    some = 1 + int(np.searchsorted(size, _ENCODED_TWICE))
    if tokenizer.encode_batch(texts[:some]) != list(encoded[:some]):
        raise RequestError(
            f"--tokenizer {tokenizer.name}: encodes the same text otherwise each time, as something in its file draws "
            "at random; one without would do"
        )


def _token_bytes(documents: Sequence[Document], tokenizer: Tokenizer) -> NDArray[np.uint32]:
    """[n_tokens]: the bytes of each token where it stands, with BOS and EOS around each document."""
    counts = (count for batch in _batches(documents) for count in tokenizer.byte_counts([each.text for each in batch]))
    return np.concatenate([np.pad(count, 1) for count in counts]).astype(np.uint32)


def source_numbers(documents: Sequence[Document]) -> NDArray[np.int64]:
    """[n_documents]: numbers of sources, in the order in which they first occur; without one a document is its own."""
    numbers: dict[str | int, int] = {}
    found = [
        numbers.setdefault(index if each.source is None else each.source, len(numbers))
        for index, each in enumerate(documents)
    ]
    return np.array(found, np.int64)


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
