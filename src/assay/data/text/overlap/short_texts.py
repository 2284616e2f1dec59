"""Near-duplicates among short texts, and short texts that stand in longer ones, by hashes alone: linear in the text.

Two texts of up to 15 words are near if the same words remain, in the same order, when up to a quarter of the words of
each are left out (from 5 words on; of shorter texts none is): the neighbourhoods by deletion of spelling correction
(Mor and Fraenkel 1982). A text of 5 to 12 words is contained in a longer one that has all of it in a row.
"""

import itertools
from math import comb

import numpy as np
from numpy.typing import NDArray

from assay.data.text.overlap.components import Components
from assay.data.text.overlap.words import Hashes, Ints, gram_hashes, mixed

FEWEST_WORDS = 5
"""Of texts that are compared other than for equality."""
CONTAINED_WORDS = 12
"""The most words of a text whose containment is looked for here; longer ones are left to `coverage`."""
MOST_WORDS = 15
"""Of a text whose neighbourhood is looked at: one of 12 words with a quarter more put in."""

_PLACE_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)
_BATCH = 2_000_000
"""The most words of variants at once."""


def left_out(words: int) -> int:
    """How many words of a text of so many may be left out."""
    return words // 4 if words >= FEWEST_WORDS else 0


def join_equal_texts(words: Hashes, starts: Ints, found: Components) -> None:
    """Join texts of equal words, of any length but 0."""
    lengths = np.diff(starts)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return
    position = np.arange(len(words)) - np.repeat(starts[:-1], lengths)
    keys = np.add.reduceat(mixed(words + position.astype(np.uint64) * _PLACE_FACTOR), starts[filled])
    found.join_equal(keys, filled)


def join_near_short_texts(words: Hashes, starts: Ints, found: Components) -> None:
    """Join short texts that agree in all but a quarter of the words of each."""
    lengths = np.diff(starts)
    for remaining in range(FEWEST_WORDS - left_out(FEWEST_WORDS), MOST_WORDS + 1):
        keys: list[Hashes] = []
        nodes: list[Ints] = []
        for length in range(remaining, MOST_WORDS + 1):
            if length - remaining > left_out(length):
                continue
            texts = np.flatnonzero(lengths == length)
            kept = np.array(list(itertools.combinations(range(length), remaining)))
            for few in np.array_split(texts, 1 + len(texts) * kept.size // _BATCH):
                keys.append(_row_hashes(words[starts[few][:, None] + np.arange(length)], kept).ravel())
                nodes.append(np.repeat(few, comb(length, remaining)))
        if keys:
            found.join_equal(np.concatenate(keys), np.concatenate(nodes))


def _row_hashes(rows: NDArray[np.uint64], kept: Ints) -> NDArray[np.uint64]:
    """For each row of words [texts, words] and each choice of columns [choices, kept], the hash of those words."""
    hashes = np.zeros((len(rows), len(kept)), np.uint64)
    for column in range(kept.shape[1]):
        hashes = hashes * _WORD_FACTOR + rows[:, kept[:, column]]
    return hashes


def join_contained_short_texts(words: Hashes, starts: Ints, found: Components, most_holders: int) -> None:
    """Join each text of 5 to 12 words to all that have it in a row, unless those are more than `most_holders`."""
    lengths = np.diff(starts)
    for length in range(FEWEST_WORDS, CONTAINED_WORDS + 1):
        texts = np.flatnonzero(lengths == length)
        if not len(texts):
            continue
        grams = gram_hashes(words, length)
        keys, index = np.unique(grams[starts[texts]], return_index=True)
        wanted = np.zeros(1 << 24, np.bool_)
        wanted[keys >> np.uint64(40)] = True
        place = np.flatnonzero(wanted[grams >> np.uint64(40)])
        rank = np.minimum(np.searchsorted(keys, grams[place]), len(keys) - 1)
        place, rank = place[keys[rank] == grams[place]], rank[keys[rank] == grams[place]]
        holder = np.searchsorted(starts, place, side="right") - 1
        whole = place + length <= starts[holder + 1]
        pairs = np.unique(np.stack([rank[whole], holder[whole]]), axis=1)
        holders = np.bincount(pairs[0], minlength=len(keys))
        few = holders[pairs[0]] <= most_holders
        found.join(texts[index[pairs[0][few]]].tolist(), pairs[1][few].tolist())
