"""Exact duplicates and near-duplicates among documents, so that no text stands on both sides of a split.

Near-duplicates share at least half of the word 13-grams of the smaller one (containment, Broder 1997; 13-grams as in
Brown et al. 2020, appendix C). Grams are hashed to 64 bits with numpy. Pairs are found by postings lists: for each
gram, the list of texts that contain it.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

GRAM_WORDS = 13
CONTAINMENT = 0.5
NEIGHBOURS = 8
"""A gram counts only for pairs of texts at most this far apart in its postings list.

So the time is linear, not quadratic, in the number of texts that share a gram.
"""

_CHUNK_BYTES = 8_000_000
_LETTER_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)


def content_hash(text: str) -> bytes:
    """SHA-256 of the text without the whitespace around it: equal for exact duplicates."""
    return hashlib.sha256(text.strip().encode()).digest()


def near_duplicate_clusters(texts: Sequence[str]) -> Ints:
    """Return a label for each text: the index of the first text of its cluster (its own where it stands alone).

    Clusters are the connected components of near-duplicate pairs. A gram in more than `NEIGHBOURS` texts, mostly from
    licence headers, counts only for texts of similar length, as postings lists are sorted by the number of grams.
    """
    grams = [np.unique(each) for each in _gram_hashes(texts)]
    sizes = np.array([len(each) for each in grams], dtype=np.int64)
    order = np.argsort(sizes, kind="stable")
    if not sizes.sum():
        return np.arange(len(texts))
    rank = np.empty(len(texts), dtype=np.int64)
    rank[order] = np.arange(len(texts))
    owners = np.repeat(rank, sizes)
    pairs, shared = _shared_grams(np.concatenate(grams), owners)
    first, second = order[pairs // len(texts)], order[pairs % len(texts)]
    near = shared >= CONTAINMENT * np.minimum(sizes[first], sizes[second])
    return _components(len(texts), first[near], second[near])


def _shared_grams(grams: NDArray[np.uint64], owners: Ints) -> tuple[Ints, Ints]:
    """Pairs of texts, coded a * n + b with a < b, and how many grams each pair shares (see `NEIGHBOURS`).

    `owners` gives the number of the text that each of `grams` comes from.
    """
    by_gram = np.lexsort((owners, grams))
    grams, owners = grams[by_gram], owners[by_gram]
    n = int(owners.max()) + 1
    found: list[Ints] = []
    counts: list[Ints] = []
    for distance in range(1, NEIGHBOURS + 1):
        same = grams[distance:] == grams[:-distance]
        codes, count = np.unique(owners[:-distance][same] * n + owners[distance:][same], return_counts=True)
        found.append(codes)
        counts.append(count)
    pairs, index = np.unique(np.concatenate(found), return_inverse=True)
    return pairs, np.bincount(index, weights=np.concatenate(counts), minlength=len(pairs)).astype(np.int64)


def _components(n: int, first: Ints, second: Ints) -> Ints:
    """Union-find: for each of n nodes, the smallest node of its connected component."""
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(node) for node in range(n)], dtype=np.int64)


def _gram_hashes(texts: Sequence[str]) -> Iterator[NDArray[np.uint64]]:
    """Yield, for each text in order, the hashes of its 13-grams; many small texts are hashed at once."""
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        chunk.append(text.encode())
        size += len(chunk[-1])
        if size >= _CHUNK_BYTES:
            yield from _chunk_hashes(chunk)
            chunk, size = [], 0
    if chunk:
        yield from _chunk_hashes(chunk)


def _chunk_hashes(chunk: list[bytes]) -> Iterator[NDArray[np.uint64]]:
    text = np.frombuffer(b"\n".join(chunk) + b"\n", dtype=np.uint8)
    ends = np.cumsum([len(each) + 1 for each in chunk])
    words, places = _word_hashes(text)
    if len(words) < GRAM_WORDS:
        yield from (np.empty(0, np.uint64) for _ in chunk)
        return
    grams = np.zeros(len(words) - GRAM_WORDS + 1, dtype=np.uint64)
    for word in range(GRAM_WORDS):
        grams = grams * _WORD_FACTOR + words[word : word + len(grams)]
    grams ^= grams >> np.uint64(31)
    # A gram is kept only if it starts and ends in the same text.
    bounds = np.searchsorted(places, np.concatenate([[0], ends]))
    for low, high in itertools.pairwise(bounds):
        yield grams[low : max(low, high - GRAM_WORDS + 1)]


def _word_hashes(text: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], Ints]:
    """Hashes of the words of UTF-8 text, and the byte at which each starts.

    A word is a run of ASCII letters (case folded), digits, underscores and bytes above 127; a character of three bytes
    or more from U+3000 on (Chinese, Japanese, Korean) is a word of its own, as those scripts have no spaces.
    """
    kinds = _BYTE_KINDS[text]
    inside = kinds > 0
    starts = inside & ((kinds == 2) | ~np.concatenate([[False], inside[:-1]]))
    places = np.flatnonzero(starts)
    if not len(places):
        return np.empty(0, np.uint64), places
    # Horner's rule for all words at once: byte j of a word is multiplied by factor^j.
    letters = _FOLDED[text[inside]]
    word = np.cumsum(starts[inside]) - 1
    firsts = np.flatnonzero(starts[inside])
    position = np.minimum(np.arange(len(letters)) - firsts[word], len(_POWERS) - 1)
    return np.add.reduceat(letters * _POWERS[position], firsts), places


def _byte_kinds() -> NDArray[np.uint8]:
    """For each byte value: 0 between words, 1 inside a word, 2 at the start of a word whatever comes before it."""
    kinds = np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        if byte >= 0xE3:
            kinds[byte] = 2
        elif byte >= 0x80 or chr(byte).isalnum() or byte == ord("_"):
            kinds[byte] = 1
    return kinds


_BYTE_KINDS = _byte_kinds()
_FOLDED = np.array([ord(chr(byte).lower()) if byte < 0x80 else byte for byte in range(256)], dtype=np.uint64) + 1
_POWERS = np.cumprod(np.full(64, _LETTER_FACTOR), dtype=np.uint64)
"""Factors of the first 64 bytes of a word in its hash; bytes after these, in no real word, all have the last factor."""
