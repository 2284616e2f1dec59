"""Models without a network, trained on the same tokens: what a score must beat to mean anything.

Unigram: add-one (Laplace). Trigram: uniform, unigram, bigram and trigram frequencies interpolated with weights that
depend on how often the history was seen (Jelinek and Mercer 1980; Chen and Goodman 1999, section 2.3).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.data.scoring import ScoringWindows
from assay.targets import IGNORED

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TRIGRAM_BUCKETS = (1, 2, 4, 8, 32)
"""Where a bucket of trigram histories begins, by their count."""
_BIGRAM_BUCKETS = (1, 4, 32)
"""The same for bigram histories, where the trigram history is new or there is none."""
_EM_STEPS = 30
_NO_TOKEN = -1


def ngram_floors(train: Ints, validation: ScoringWindows, test: ScoringWindows, vocab_size: int) -> dict[str, Floats]:
    """Nats of every target of `test`, by row, padding left out: {"unigram": [n_targets], "trigram": [n_targets]}.

    `train`: [N, C + 1], the windows a run consumed. A history reaches back to the start of its window and no further.
    The trigram's weights are fitted on `validation`.
    """
    counts = NgramCounts.of(train, vocab_size)
    fitted = _Events.of(validation)
    scored = _Events.of(test)
    weights = _fit_weights(counts.components(fitted), counts.buckets(fitted))
    trigram = (weights[counts.buckets(scored)] * counts.components(scored)).sum(axis=1)
    unigram = (counts.unigrams[scored.token] + 1) / (counts.unigrams.sum() + vocab_size)
    return {"unigram": -np.log(unigram), "trigram": -np.log(trigram)}


@dataclass(frozen=True)
class _Events:
    """Targets with the two tokens before each; `_NO_TOKEN` where the window had not begun."""

    token: Ints
    last: Ints
    last_but_one: Ints

    @classmethod
    def of(cls, windows: ScoringWindows) -> "_Events":
        real = windows.targets != IGNORED
        before = np.full_like(windows.inputs, _NO_TOKEN)
        before[:, 1:] = windows.inputs[:, :-1]
        return cls(windows.targets[real], windows.inputs[real], before[real])


@dataclass(frozen=True)
class _Table:
    """How often each key occurred."""

    keys: Ints
    counts: Ints

    @classmethod
    def of(cls, occurrences: Ints) -> "_Table":
        return cls(*np.unique(occurrences, return_counts=True))

    def look_up(self, keys: Ints) -> Ints:
        """The count of each key, 0 where it never occurred."""
        if not len(self.keys):
            return np.zeros_like(keys)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.counts[place], 0)


@dataclass(frozen=True)
class NgramCounts:
    """Counts of tokens, pairs and triples that lie within one window; histories count where something followed."""

    vocab_size: int
    unigrams: Ints
    pairs: _Table
    triples: _Table
    pair_histories: Ints
    triple_histories: _Table

    @classmethod
    def of(cls, windows: Ints, vocab_size: int) -> "NgramCounts":
        """Count in `windows` [N, C + 1], whose first token is history only (it is the target of the window before)."""
        if vocab_size >= 1 << 21:
            raise ValueError(f"a vocabulary of {vocab_size}: triples of more than 2^21 tokens do not fit into 64 bits")
        pairs = windows[:, :-1] * vocab_size + windows[:, 1:]
        triples = pairs[:, :-1] * vocab_size + windows[:, 2:]
        return cls(
            vocab_size=vocab_size,
            unigrams=np.bincount(windows[:, 1:].ravel(), minlength=vocab_size),
            pairs=_Table.of(pairs.ravel()),
            triples=_Table.of(triples.ravel()),
            pair_histories=np.bincount(windows[:, :-1].ravel(), minlength=vocab_size),
            triple_histories=_Table.of(pairs[:, :-1].ravel()),
        )

    def components(self, events: _Events) -> Floats:
        """[n, 4]: the probability of each target under uniform, unigram, bigram, trigram; 0 for a new history."""
        pair = events.last * self.vocab_size + events.token
        triple = self._triple_history(events) * self.vocab_size + events.token
        found = (self.unigrams[events.token], self.pairs.look_up(pair), self.triples.look_up(triple))
        totals = (self.unigrams.sum(), *self._history_counts(events))
        uniform = np.full(len(events.token), 1 / self.vocab_size)
        shares = [count / np.maximum(total, 1) for count, total in zip(found, totals, strict=True)]
        return np.stack([uniform, *shares], axis=1)

    def buckets(self, events: _Events) -> Ints:
        """[n]: the bucket of each target's history; within one, the same components can be other than 0."""
        pair_count, triple_count = self._history_counts(events)
        by_pair = np.searchsorted(_BIGRAM_BUCKETS, pair_count, side="right")
        by_triple = np.searchsorted(_TRIGRAM_BUCKETS, triple_count, side="right")
        return np.where(triple_count > 0, len(_BIGRAM_BUCKETS) + by_triple, by_pair)

    def _history_counts(self, events: _Events) -> tuple[Ints, Ints]:
        return self.pair_histories[events.last], self.triple_histories.look_up(self._triple_history(events))

    def _triple_history(self, events: _Events) -> Ints:
        """The key of the two tokens before; where there is only one, it is negative, and so in no table."""
        return events.last_but_one * self.vocab_size + events.last


def _fit_weights(components: Floats, buckets: Ints) -> Floats:
    """[buckets, 4]: weights that sum to one, by EM; one pseudo-count each keeps them above zero.

    Bucket 0 has neither history, the next ones have no trigram history: components that are 0 there get no weight,
    so that every bucket's mixture sums to one over the vocabulary.
    """
    n_buckets = len(_BIGRAM_BUCKETS) + len(_TRIGRAM_BUCKETS) + 1
    weights = np.zeros((n_buckets, 4))
    for bucket in range(n_buckets):
        usable = 2 if bucket == 0 else 3 if bucket <= len(_BIGRAM_BUCKETS) else 4
        inside = components[buckets == bucket, :usable]
        mixture = np.full(usable, 1 / usable)
        for _ in range(_EM_STEPS):
            shares = inside * mixture
            shares /= shares.sum(axis=1, keepdims=True)
            mixture = (shares.sum(axis=0) + 1) / (len(inside) + usable)
        weights[bucket, :usable] = mixture
    return weights
