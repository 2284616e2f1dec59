"""Texts that stand in others, whole or in part, edited or not: by the share of their words in shared runs of words.

A text is covered by another to the share of its words that stand in runs of `gram` words or more that the other one has
too (w-shingling, Broder 1997, but counting words and not shingles: an edit takes one word, not as many shingles as hold
it). Pairs are found through the rarest runs of the shorter text, enough of them that a pair covered by half must share
one (prefix filtering: Chaudhuri, Ganti and Kaushik 2006), and then counted exactly. There is no limit of neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.data.text.overlap.components import Components
from assay.data.text.overlap.words import Hashes, Ints, gram_hashes

Flags = NDArray[np.bool_]

COMMON_SHARE = 0.05
"""The share of words by which the runs that find a pair may fall short of the share that is asked for, at the least."""
LIKE_LENGTH = 1.25
"""Texts that differ in length by this factor at most are compared by all of their runs, boilerplate too."""
NEIGHBOURS = 4
"""Texts that are mostly boilerplate are compared with so many others of the next length, in each of `ORDERS` orders."""
ORDERS = 2

LONG_GRAM, LONG_COVERED = 8, 0.2
"""Whole texts must also be covered by runs of `LONG_GRAM` words to the share `LONG_COVERED`.

In a language of few words, as a made-up one, texts have most runs of four words in common by chance.
"""

_BATCH = 4_000_000
"""The most postings, or runs of candidates, at once."""


@dataclass(frozen=True)
class Scale:
    """How texts of `fewest` up to `fewer_than` words are compared with texts that are no shorter.

    They are looked for in windows of `window` words, each begun half a window after the last, or in whole texts where
    `window` is None. A pair is near if runs of `gram` words cover the share `covered` of the shorter one, and the share
    `in_order` of its words stands in the window in the same order, whatever lies between (longest common subsequence).
    """

    fewest: int
    fewer_than: int
    gram: int
    window: int | None
    covered: float
    in_order: float = 0.0


SCALES = [
    Scale(13, 26, 3, 52, 0.3, in_order=0.66),
    Scale(26, 64, 3, 128, 0.4, in_order=0.62),
    Scale(64, 256, 3, 512, 0.5, in_order=0.62),
    Scale(256, 1 << 62, 4, None, 0.5),
]


def join_covered_texts(words: Hashes, starts: Ints, found: Components, scale: Scale, most_holders: int) -> None:
    """Join each text of the lengths of `scale` to all that cover it.

    Runs in more than `most_holders` texts are boilerplate and join no texts of unlike length (see `LIKE_LENGTH`).
    """
    lengths = np.diff(starts)
    queries = np.flatnonzero((lengths >= scale.fewest) & (lengths < scale.fewer_than))
    if len(queries):
        _Search(words, starts, queries, found, scale, most_holders).run()


class _Search:
    """One scale's texts, the windows of all that may hold them, and for each run of words the windows that have it."""

    def __init__(
        self, words: Hashes, starts: Ints, queries: Ints, found: Components, scale: Scale, most_holders: int
    ) -> None:
        self.words, self.starts = words, starts
        self.found, self.scale = found, scale
        self.lengths = np.diff(starts)
        self.queries = queries[np.argsort(self.lengths[queries], kind="stable")]
        self.runs = self.lengths[self.queries] - scale.gram + 1
        self.first_run = np.concatenate([np.zeros(1, np.int64), self.runs.cumsum()])
        self._index(gram_hashes(words, scale.gram))
        many = self.documents > most_holders
        self.boilerplate = np.append(many, False)
        self._choose()

    def _index(self, grams: Hashes) -> None:
        """Number the runs of the queries that stand in two texts or more, and list the windows of each.

        `rank` is the number of each run of each query, or the number of all of them where it stands in one text only.
        """
        asked = _ranges(self.starts[self.queries], self.runs)
        text, place = self._holders(grams, asked)
        order = np.argsort(grams[place], kind="stable")
        text, place = text[order], place[order]
        new_gram = _changes(grams[place])
        number = np.cumsum(new_gram) - 1
        documents = np.bincount(number[new_gram | _changes(text)])
        is_query = np.zeros(len(self.lengths), np.bool_)
        is_query[self.queries] = True
        shared = (documents > 1) & (np.bincount(number, weights=is_query[text]) > 0)
        renumbered = np.where(shared, np.cumsum(shared) - 1, shared.sum())
        self.documents = documents[shared]
        rank_at = np.full(len(grams), len(self.documents))
        rank_at[place] = renumbered[number]
        self.rank = rank_at[asked]
        keep = shared[number]
        rank, text, place = renumbered[number[keep]], text[keep], place[keep]
        # One entry for each run and window, by run and window.
        windows, self.owner, self.begin = _windows(text, place - self.starts[text], self.starts, self.scale)
        self.codes = np.sort(np.concatenate([rank * len(self.owner) + each for each in windows]))
        self.codes = self.codes[_changes(self.codes)]
        rank, self.window = np.divmod(self.codes, len(self.owner))
        counts = np.bincount(rank, minlength=len(self.documents))
        self.postings = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])

    def _holders(self, grams: Hashes, asked: Ints) -> tuple[Ints, Ints]:
        """Texts and places of the runs of all texts that are long enough, but for most that no query has."""
        wanted = np.zeros(1 << 24, np.bool_)
        wanted[grams[asked] >> np.uint64(40)] = True
        holders = np.flatnonzero(self.lengths >= self.scale.fewest)
        runs = self.lengths[holders] - self.scale.gram + 1
        place = _ranges(self.starts[holders], runs)
        held = wanted[grams[place] >> np.uint64(40)]
        return np.repeat(holders, runs)[held], place[held]

    def _choose(self) -> None:
        """Choose the runs by which candidates are found: the rarest of each query.

        The others cover less than the share that is asked for, so that a pair must have one of the chosen.
        """
        frequency = np.append(np.diff(self.postings), 1)[self.rank]
        frequency = np.where(self.boilerplate[self.rank], np.iinfo(np.int64).max, frequency)
        gram = self.scale.gram
        # For each word the most frequent run over it; queries are laid out with gram - 1 places between their runs.
        lengths = self.lengths[self.queries]
        first_word = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        place = _ranges(first_word[:-1], self.runs)
        over = np.zeros(first_word[-1], np.int64)
        for word in range(gram):
            np.maximum.at(over, place + word, frequency)
        query = np.repeat(np.arange(len(lengths)), lengths)
        over = over[np.lexsort((over, query))]
        rare = np.ceil((1 - self.scale.covered + COMMON_SHARE) * lengths).astype(np.int64)
        limit = over[first_word[:-1] + np.minimum(rare, lengths - 1)]
        self.fewest_shared = np.maximum(1, np.floor(COMMON_SHARE * lengths / gram)).astype(np.int64)
        self.chosen = (frequency <= np.repeat(limit, self.runs)) & (self.rank < len(self.documents))
        self.chosen &= ~self.boilerplate[self.rank]
        common = np.add.reduceat(self.boilerplate[self.rank].astype(np.int64), self.first_run[:-1])
        self.mostly_boilerplate = np.flatnonzero(2 * common >= self.runs)

    def run(self) -> None:
        if not len(self.documents):
            return
        done, size = 0, 1
        while done < len(self.queries):
            # Runs all of whose holders are joined already find nothing more. Looked at anew as the work doubles, from
            # one query on, so that the copies of one text are compared with one of them.
            self._drop_joined(done)
            until = min(done + size, len(self.queries))
            for low, high in self._batches(done, until):
                self._join(*self._candidates(low, high))
            done, size = until, 2 * size
        for query, window in self._boilerplate_neighbours():
            self._join(query, window)

    def _drop_joined(self, done: int) -> None:
        label = self.found.labels()[self.owner[self.window]]
        first = self.postings[:-1]
        joined = np.append(np.minimum.reduceat(label, first) == np.maximum.reduceat(label, first), True)
        here = self.first_run[done]
        self.chosen[here:] &= ~joined[self.rank[here:]]

    def _batches(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Cut queries low to high where the postings of their chosen runs grow beyond a batch."""
        here, end = self.first_run[low], self.first_run[high]
        work = np.where(self.chosen[here:end], np.append(np.diff(self.postings), 0)[self.rank[here:end]], 0)
        work = np.concatenate([np.zeros(1, np.int64), work.cumsum()])[self.first_run[low : high + 1] - here]
        while low < high:
            until = int(np.searchsorted(work, work[0] + _BATCH, side="right")) - 1
            until = max(1, min(until, high - low))
            yield low, low + until
            work = work[until:]
            low += until

    def _candidates(self, low: int, high: int) -> tuple[Ints, Ints]:
        """Queries and windows of longer texts that share enough chosen runs and are not joined yet."""
        here, end = self.first_run[low], self.first_run[high]
        query = np.repeat(np.arange(low, high), self.runs[low:high])
        chosen = self.chosen[here:end]
        rank, query = self.rank[here:end][chosen], query[chosen]
        count = np.diff(self.postings)[rank]
        window = self.window[_ranges(self.postings[rank], count)]
        codes = np.sort(np.repeat(query, count) * len(self.owner) + window)
        first = np.flatnonzero(_changes(codes))
        shared = np.diff(first, append=len(codes))
        query, window = np.divmod(codes[first], len(self.owner))
        owner = self.owner[window]
        longer = self.lengths[owner] >= self.lengths[self.queries[query]]
        keep = longer & (owner != self.queries[query]) & (shared >= self.fewest_shared[query])
        return query[keep], window[keep]

    def _boilerplate_neighbours(self) -> Iterator[tuple[Ints, Ints]]:
        """Queries that are mostly boilerplate with others of like length, by orders of their boilerplate."""
        few = self.mostly_boilerplate
        window_of = np.searchsorted(self.owner, self.queries)
        for order in range(ORDERS):
            keys = (self.rank + 1) * (2 * order + 1) * 0x9E3779B1 % (1 << 32)
            keys = np.where(self.boilerplate[self.rank], keys, 1 << 32)
            smallest = np.minimum.reduceat(keys, self.first_run[:-1])[few]
            line = few[np.lexsort((self.lengths[self.queries[few]], smallest))]
            for distance in range(1, NEIGHBOURS + 1):
                yield line[:-distance], window_of[line[distance:]]

    def _join(self, query: Ints, window: Ints) -> None:
        """Join those pairs of which the window covers enough of the query."""
        label = self.found.labels()
        apart = label[self.queries[query]] != label[self.owner[window]]
        query, window = query[apart], window[apart]
        bounds = np.searchsorted(self.runs[query].cumsum(), np.arange(_BATCH, self.runs[query].sum() + _BATCH, _BATCH))
        for q, w in zip(np.split(query, bounds), np.split(window, bounds), strict=True):
            if len(q):
                near = self._covered(q, w) >= self.scale.covered * self.lengths[self.queries[q]]
                q, w = q[near], w[near]
                near = self._in_long_runs(q, w) if self.scale.window is None else self._in_order(q, w)
                self.found.join(self.queries[q[near]].tolist(), self.owner[w[near]].tolist())

    def _covered(self, query: Ints, window: Ints) -> Ints:
        """How many words of each query its window covers."""
        runs = self.runs[query]
        rank = self.rank[_ranges(self.first_run[query], runs)]
        codes = rank * len(self.owner) + np.repeat(window, runs)
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        shared = self.codes[place] == codes
        unlike = self.lengths[self.owner[window]] > LIKE_LENGTH * self.lengths[self.queries[query]]
        shared &= ~(self.boilerplate[rank] & np.repeat(unlike, runs))
        lengths = runs + self.scale.gram - 1
        first = np.cumsum(lengths) - lengths
        at = _ranges(first, runs)[shared]
        covered = np.zeros(lengths.sum(), np.int64)
        for word in range(self.scale.gram):
            covered[at + word] = 1
        total: Ints = np.add.reduceat(covered, first)
        return total

    def _in_long_runs(self, query: Ints, window: Ints) -> Flags:
        """Whether runs of `LONG_GRAM` words cover enough of each query too."""
        near = np.zeros(len(query), np.bool_)
        held_by: dict[int, Hashes] = {}
        for number in np.argsort(window, kind="stable").tolist():
            text, owner = int(self.queries[query[number]]), int(self.owner[window[number]])
            if owner not in held_by:
                held_by = {owner: gram_hashes(self.words[self.starts[owner] : self.starts[owner + 1]], LONG_GRAM)}
            runs = gram_hashes(self.words[self.starts[text] : self.starts[text + 1]], LONG_GRAM)
            place = np.flatnonzero(np.isin(runs, held_by[owner]))
            covered = np.zeros(self.lengths[text], np.bool_)
            covered[(place[:, None] + np.arange(LONG_GRAM)).ravel()] = True
            near[number] = covered.mean() >= LONG_COVERED
        return near

    def _in_order(self, query: Ints, window: Ints) -> Flags:
        """Whether each query and its window have a common subsequence of words that is long enough."""
        assert self.scale.window is not None
        parts = [np.empty(0, np.bool_)]
        for few in np.array_split(np.arange(len(query)), 1 + len(query) * self.scale.window // 100_000):
            text, length = self.queries[query[few]], self.lengths[self.queries[query[few]]]
            left = np.arange(length.max(initial=0))
            asked = self.words[np.minimum(self.starts[text][:, None] + left, len(self.words) - 1)]
            place = self.begin[window[few]][:, None] + np.arange(self.scale.window)
            there = place < self.starts[self.owner[window[few]] + 1][:, None]
            held = self.words[np.minimum(place, len(self.words) - 1)]
            longest = np.zeros((len(few), self.scale.window + 1), np.int16)
            for word in left:
                equal = there & (held == asked[:, word, None]) & (word < length)[:, None]
                longest[:, 1:] = np.maximum(longest[:, 1:], (longest[:, :-1] + 1) * equal)
                np.maximum.accumulate(longest, axis=1, out=longest)
            parts.append(longest[:, -1] >= self.scale.in_order * length)
        return np.concatenate(parts)


def _windows(text: Ints, at: Ints, starts: Ints, scale: Scale) -> tuple[list[Ints], Ints, Ints]:
    """The one or two windows that have the run at word `at` of `text`; of each window its text and its first word.

    Window k of a text begins at word k * step and is two steps long, so that a run that begins in step k lies in
    windows k - 1 and k; what is cut off at the end of a window is whole in the next.
    """
    lengths = np.diff(starts)
    if scale.window is None:
        return [text], np.arange(len(lengths)), starts[:-1]
    step = scale.window // 2
    windows = np.maximum(1, -(-lengths // step) - 1)
    first = np.cumsum(windows) - windows
    owner = np.repeat(np.arange(len(lengths)), windows)
    begin = starts[owner] + step * (np.arange(len(owner)) - first[owner])
    before, here = np.maximum(at // step - 1, 0), np.minimum(at // step, windows[text] - 1)
    return [first[text] + before, first[text] + here], owner, begin


def _changes(numbers: NDArray[np.generic]) -> Flags:
    """Where a number differs from the one before it; True at the first."""
    changes = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=changes[1:])
    return changes


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """The numbers from each start on, as many as `counts` says, one range after the other."""
    ends = np.cumsum(counts)
    numbers: Ints = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return numbers
