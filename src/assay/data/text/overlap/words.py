"""Texts as normalised words, hashed with numpy: what counts as the same word when duplicates are looked for.

Case, punctuation and the Unicode form do not count (NFKC and case folding; soft hyphens and other format characters are
left out). A word is a run of letters, digits, underscores and the marks on them. Scripts without spaces have other
words: a Chinese character or a kana is a word; in Thai, Lao, Khmer and Burmese each letter begins one, of itself and
the next two.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

_BETWEEN, _LETTER, _ALONE, _OVERLAPPING, _IGNORED = range(5)
"""Kinds of characters: between words, in a word, a word of its own, with the next two a word, and left out."""

_ALONE_RANGES = [(0x2E80, 0x3130), (0x3190, 0xA4D0), (0xF900, 0xFB00)]
_OVERLAPPING_RANGES = [(0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x1950, 0x1AB0), (0xA9E0, 0xAA80)]

_BEYOND = 0x10000
"""Characters from here on (rare Chinese, emoji) are words of their own."""

_CHUNK_CHARACTERS = 4_000_000
_LETTER_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)
_POWERS = np.cumprod(np.full(64, _LETTER_FACTOR), dtype=np.uint64)
"""Factors of the first 64 letters of a word in its hash; those after them all have the last factor."""


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """The hashes of the words of all texts, one text after the other; where each begins, and where the last ends."""
    parts: list[Hashes] = []
    counts: list[Ints] = []
    for chunk in _chunks(texts):
        words, count = _chunk_words(chunk)
        parts.append(words)
        counts.append(count)
    starts = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
    return np.concatenate([np.empty(0, np.uint64), *parts]), starts


def gram_hashes(words: Hashes, length: int) -> Hashes:
    """The hash of each run of `length` words, by the place of its first word; len(words) - length + 1 of them."""
    grams = np.zeros(max(0, len(words) - length + 1), np.uint64)
    for word in range(length if len(grams) else 0):
        grams *= _WORD_FACTOR
        grams += words[word : word + len(grams)]
    return mixed(grams)


def mixed(numbers: Hashes) -> Hashes:
    """A bijection of 64 bits in which every bit of the argument moves every bit of the result (MurmurHash3's)."""
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> np.uint64(33))


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(_folded(text))
        size += len(chunk[-1])
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _folded(text: str) -> str:
    """Unicode's NFKC_Casefold but for the characters that are ignored."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _chunk_words(chunk: list[str]) -> tuple[Hashes, Ints]:
    """The hashes of the words of all texts of the chunk, and the number of words of each."""
    ends = np.cumsum([len(each) + 1 for each in chunk])
    text = "\n".join(chunk) + "\n"
    if text.isascii():
        letters = np.frombuffer(text.encode(), np.uint8)
    else:
        letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[letters if letters.dtype == np.uint8 else np.minimum(letters, _BEYOND)]
    if (kinds == _IGNORED).any():
        ends = ends - np.cumsum(kinds == _IGNORED)[ends - 1]
        letters, kinds = letters[kinds != _IGNORED], kinds[kinds != _IGNORED]
    inside = kinds != _BETWEEN
    continues = (kinds[1:] == _LETTER) & (kinds[:-1] == _LETTER)
    starts = inside & ~np.concatenate([[False], continues])
    values = letters.astype(np.uint64) + np.uint64(1)
    if (kinds == _OVERLAPPING).any():
        alone = np.where(kinds == _OVERLAPPING, values, 0)
        padded = np.concatenate([alone, np.zeros(2, np.uint64)])
        following = padded[1:-1] * _POWERS[1] + np.where(padded[1:-1] > 0, padded[2:], 0) * _POWERS[2]
        values = values + np.where(alone > 0, following, 0)
    # Horner's rule for all words at once: letter j of a word is multiplied by factor^j.
    values, firsts = values[inside], np.flatnonzero(starts[inside])
    places = np.flatnonzero(starts)
    counts = np.diff(np.searchsorted(places, np.concatenate([[0], ends])))
    if not len(firsts):
        return np.empty(0, np.uint64), counts
    position = np.arange(len(values)) - np.repeat(firsts, np.diff(np.append(firsts, len(values))))
    return mixed(np.add.reduceat(values * _POWERS[np.minimum(position, len(_POWERS) - 1)], firsts)), counts


@cache
def _kinds() -> NDArray[np.uint8]:
    """The kind of each character below U+10000, and of all those above."""
    kinds = np.array([*(_kind(chr(code)) for code in range(_BEYOND)), _ALONE], np.uint8)
    words = kinds == _LETTER
    for ranges, kind in ((_ALONE_RANGES, _ALONE), (_OVERLAPPING_RANGES, _OVERLAPPING)):
        for low, high in ranges:
            kinds[low:high][words[low:high]] = kind
    return kinds


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return _IGNORED
    return _LETTER if category[0] in "LNM" or character == "_" else _BETWEEN
