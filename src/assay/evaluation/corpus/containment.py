"""Which held-out documents stand in the training documents: by shared word 13-grams, exactly or by MinHash.

Written apart from data/text/overlap/duplicates.py, which makes the splits: the check shares no mistake with what it
checks.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grams = NDArray[np.uint64]
Ints = NDArray[np.int64]

CONTAINMENT = 0.5
"""The share of its 13-grams from which a document is a copy."""
GRAM_WORDS = 13

BINS = 256
"""Of a MinHash sketch."""
CANDIDATE = 0.25
"""Pairs whose estimated containment is at least this are verified gram by gram."""
HOLDERS = 8
"""A sketched gram is followed to at most so many held-out documents: boilerplate makes no quadratic number of pairs."""

_WORD = re.compile(r"[\u3000-\U0010ffff]|[^\W\u3000-\U0010ffff]+")
"""Letters, digits and underscores in a row; from U+3000 on, where scripts put no spaces, each character."""
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_MIXER = np.uint64(0xFF51AFD7ED558CCD)


class Copy(NamedTuple):
    """Held-out document number `held_out` stands in training document number `training`, or the other way round.

    `share` of the 13-grams of the held-out document (of the training document if `reversed`) are in the other side.
    """

    held_out: int
    training: int
    share: float
    reversed: bool


class Copies(NamedTuple):
    """What was found, the largest share first, and the largest share of any document, a copy or not."""

    found: list[Copy]
    largest: float


class WordGrams:
    """The distinct 13-grams of words of a text as 64-bit hashes, comparable within one instance."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict(itertools.count(1).__next__)

    def of(self, text: str) -> Grams:
        """Sorted; none where the text has fewer than 13 words. Case and punctuation do not count."""
        words = _WORD.findall(text.lower())
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.uint64, len(words))
        grams = np.zeros(max(0, len(words) - GRAM_WORDS + 1), np.uint64)
        for word in range(GRAM_WORDS if len(grams) else 0):
            grams = grams * _FACTOR + numbers[word : word + len(grams)]
        grams = (grams ^ (grams >> np.uint64(32))) * _MIXER
        return np.unique(grams ^ (grams >> np.uint64(29)))


def exact_copies(held_out: Iterable[str], training: Iterable[str]) -> Copies:
    """Held-out texts of whose 13-grams at least half occur in training, in one document of it or in several.

    And training texts of whose 13-grams at least half occur in held-out ones. Exact up to collisions of 64-bit hashes;
    linear in the text, and only the grams of the held-out side are kept. Where the grams are in several
    documents, the one that a copy names is that which has most of them, each counted where it occurred first.
    """
    word_grams = WordGrams()
    grams_of = [word_grams.of(text) for text in held_out]
    known, holder = np.unique(_joined(grams_of), return_index=True)
    owner = np.repeat(np.arange(len(grams_of)), [len(each) for each in grams_of])
    holder = owner[holder] if len(owner) else holder
    source = np.full(len(known), -1)
    found: list[Copy] = []
    for number, text in enumerate(training):
        grams = word_grams.of(text)
        place = _places(known, grams)
        source[place[source[place] < 0]] = number
        if len(place) and len(place) >= CONTAINMENT * len(grams):
            found.append(Copy(_most_frequent(holder[place]), number, len(place) / len(grams), reversed=True))
    largest = max((copy.share for copy in found), default=0.0)
    for number, grams in enumerate(grams_of):
        sources = source[_places(known, grams)]
        sources = sources[sources >= 0]
        share = len(sources) / len(grams) if len(grams) else 0.0
        largest = max(largest, share)
        if share >= CONTAINMENT:
            found.append(Copy(number, _most_frequent(sources), share, reversed=False))
    named = {(copy.held_out, copy.training) for copy in found if not copy.reversed}
    once = [copy for copy in found if not copy.reversed or (copy.held_out, copy.training) not in named]
    return Copies(sorted(once, key=lambda copy: -copy.share), largest)


def minhash_copies(held_out: Iterable[str], training: Iterable[str]) -> Copies:
    """Pairs of a held-out and a training text that share at least half of the 13-grams of the smaller one.

    For very many documents, where common phrases of all of them would add up to a half of an innocent one: only pairs
    count. One-permutation MinHash (Li, Owen and Zhang 2012): a sketch is the smallest gram of each of 256 bins, each
    bin is a band of its own, and a pair that agrees in any is a candidate. The agreement over the occupied bins
    estimates the Jaccard index J, and J (a + b) / ((1 + J) min(a, b)) the containment; from 0.25 on the
    pair is verified exactly, so that nothing innocent is named.

    A pair of containment c is missed where its estimate falls below 0.25. With lengths of 1 to r and all bins occupied
    the agreements are binomial with J = c / (1 + r - c), which gives at c = 0.5 a probability of 2e-12 at r = 1, 1e-6
    at 2, 0.3% at 5, 2% at 10 and 13% at 20; at c = 1 below 1e-6 up to 10, and 0.1% at 20. Pairs are missed, too,
    where most of what they share stands in more than 8 held-out documents.
    """
    word_grams = WordGrams()
    index = _SketchIndex([word_grams.of(text) for text in held_out])
    found = [
        Copy(held, number, share, reversed=is_smaller)
        for number, text in enumerate(training)
        for held, share, is_smaller in index.copies_in(word_grams.of(text))
    ]
    found.sort(key=lambda copy: -copy.share)
    return Copies(found, found[0].share if found else 0.0)


class _SketchIndex:
    """The sketches of the held-out documents, searched by gram."""

    def __init__(self, grams_of: list[Grams]) -> None:
        self.grams_of = grams_of
        self.sizes = np.array([len(each) for each in grams_of], np.int64)
        sketches = [_sketch(each) for each in grams_of]
        self.occupied = np.zeros((len(sketches), BINS), bool)
        for number, sketch in enumerate(sketches):
            self.occupied[number, _bins(sketch)] = True
        grams = _joined(sketches)
        order = np.argsort(grams, kind="stable")
        self.grams = grams[order]
        self.holders = np.repeat(np.arange(len(sketches)), [len(each) for each in sketches])[order]

    def copies_in(self, grams: Grams) -> list[tuple[int, float, bool]]:
        """(held-out document, share of the smaller one's grams, whether that is the other one) of each copy."""
        held, agreeing = self._agreeing(_sketch(grams))
        occupied = np.zeros(BINS, bool)
        occupied[_bins(grams)] = True
        jaccard = agreeing / (self.occupied[held] | occupied).sum(1)
        smaller = np.minimum(self.sizes[held], len(grams))
        estimate = jaccard / (1 + jaccard) * (self.sizes[held] + len(grams)) / smaller
        copies = []
        for number in held[estimate >= CANDIDATE].tolist():
            other = self.grams_of[number]
            share = len(_places(other, grams)) / min(len(other), len(grams))
            if share >= CONTAINMENT:
                copies.append((number, share, len(grams) < len(other)))
        return copies

    def _agreeing(self, sketch: Grams) -> tuple[Ints, Ints]:
        """Held-out documents whose sketches have a gram of `sketch`, and how many."""
        first = np.searchsorted(self.grams, sketch, "left")
        last = np.minimum(np.searchsorted(self.grams, sketch, "right"), first + HOLDERS)
        places = (first[:, None] + np.arange(HOLDERS))[np.arange(HOLDERS) < (last - first)[:, None]]
        return np.unique(self.holders[places], return_counts=True)


def _sketch(grams: Grams) -> Grams:
    """The smallest of the sorted `grams` in each bin that holds any."""
    return grams[np.unique(_bins(grams), return_index=True)[1]]


def _bins(grams: Grams) -> Ints:
    """The bin of each gram: its 8 highest bits."""
    return (grams >> np.uint64(56)).astype(np.int64)


def _places(known: Grams, grams: Grams) -> Ints:
    """Where in the sorted `known` those of `grams` stand that it holds."""
    place = np.searchsorted(known, grams)
    inside = place < len(known)
    inside[inside] = known[place[inside]] == grams[inside]
    return place[inside]


def _most_frequent(numbers: Ints) -> int:
    return int(np.bincount(numbers).argmax())


def _joined(arrays: list[Grams]) -> Grams:
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint64)
