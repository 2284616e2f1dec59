"""Pairs of arms of one size: paired differences, intervals that hold together, and which of them are resolved."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from assay.analysis.intervals.calibration import Family, adjusted_p, critical_values
from assay.analysis.intervals.paired import differences
from assay.analysis.intervals.power import SeedRange, detectable_effect, seed_range
from assay.analysis.intervals.texts import crossed, over_texts
from assay.analysis.ranking.verdicts import Verdict, sentence
from assay.analysis.rule import USUAL_RULE, Rule
from assay.records import Likelihood, Pair

ROUNDING = 4 * float(np.finfo(np.float64).eps)


class Ranking(NamedTuple):
    """The arms of one size, which are compared with each other and with no others."""

    arms: Mapping[str, Mapping[int, Likelihood]]
    """Label -> seed -> scores."""
    ranked: bool
    what: str = "study"
    """What is not ranked where it is not: the study, or one size of it."""
    baseline: str | None = None
    """The arm with which the others are compared; None compares every two."""
    scored_on: str = "texts"
    """What they are scored on, in a word."""


class _Field(NamedTuple):
    """The scores of a ranking over the seeds that all its arms have, the baseline first where there is one."""

    ranking: Ranking
    labels: list[str]
    seeds: list[int]
    scores: list[list[Likelihood]]
    """By arm and seed."""

    @property
    def nats(self) -> np.ndarray:
        """Nats per token [k, n]."""
        return np.array([[of.nats_per_token for of in row] for row in self.scores]).reshape(-1, len(self.seeds))

    def pairs(self) -> list[tuple[int, int]]:
        """The indices of the arms of each pair."""
        every = itertools.combinations(range(len(self.labels)), 2)
        return [(a, b) for a, b in every if a == 0 or self.ranking.baseline is None]


Nominal = Callable[[str, str, Sequence[int]], str | None]
"""What was added after a look, of two arms and their seeds."""


def compare_pairs(
    rankings: Sequence[Ranking], rule: Rule = USUAL_RULE, nominal: Nominal = lambda *_: None
) -> list[Pair]:
    """Compare the arms of each of `rankings`; the intervals of all pairs of all rankings hold together at `rule.level`.

    A pair is resolved where its interval over seeds excludes zero. Of arms that are not ranked no pair is, whatever its
    interval says.
    """
    fields = [field for field in map(_field, rankings) if len(field.labels) > 1 and field.seeds]
    arms = tuple(len(field.labels) for field in fields)
    return [pair for field in fields for pair in _Judge(field, arms, rule, nominal).pairs()]


def family_of(arms: tuple[int, ...], seeds: int, rule: Rule) -> Family:
    """The intervals that hold together after `seeds` seeds, which are those of a planned look or of no plan."""
    looks = tuple(rule.looks) if seeds in rule.looks else (seeds,)
    return Family(arms, rule.baseline is not None, looks)


def _field(ranking: Ranking) -> _Field:
    labels = list(ranking.arms)
    if ranking.baseline is not None:
        labels = [ranking.baseline, *(label for label in labels if label != ranking.baseline)]
    seeds = sorted(set.intersection(*(set(of) for of in ranking.arms.values()))) if labels else []
    return _Field(ranking, labels, seeds, [[ranking.arms[label][seed] for seed in seeds] for label in labels])


class _Judge:
    """The pairs of one field; `arms` are the numbers of arms of all fields, whose intervals hold together."""

    def __init__(self, field: _Field, arms: tuple[int, ...], rule: Rule, nominal: Nominal) -> None:
        self.field, self.rule, self.nominal = field, rule, nominal
        self.n = len(field.seeds)
        self.family = family_of(arms, self.n, rule)
        if self.n > 1:
            self.found = differences(field.nats)
            look = self.family.looks.index(self.n)
            self.value = critical_values(self.family, rule.level)[look]

    def pairs(self) -> list[Pair]:
        return [self._pair(a, b) for a, b in self.field.pairs()]

    def _pair(self, a: int, b: int) -> Pair:
        labels, seeds, ranking = self.field.labels, self.field.seeds, self.field.ranking
        nats = self.field.nats
        mean = float((nats[a] - nats[b]).mean())
        error = self._error(a, b)
        half = None if error is None else self.value * error
        half_with_texts = None if not half else self._half_with_texts(a, b, half)
        resolved = ranking.ranked and half is not None and abs(mean) > half
        open_ = ranking.ranked and bool(error) and not resolved
        verdict = Verdict(
            a=labels[a],
            b=labels[b],
            difference=mean,
            half=half,
            half_with_texts=half_with_texts,
            level=self.rule.level,
            pairs=self.family.pairs,
            seeds=self.n,
            resolved=resolved,
            not_ranked=None if ranking.ranked else ranking.what,
            nominal=self.nominal(labels[a], labels[b], seeds),
            power=self.rule.power,
            detectable=self._detectable(error) if open_ and error else None,
            seeds_needed=self._seeds_needed(mean, error) if open_ and error else None,
            scored_on=ranking.scored_on,
        )
        return _record(verdict, self._p_value(mean, error), sentence(verdict))

    def _error(self, a: int, b: int) -> float | None:
        """The standard error; 0 for arms that score the same on every seed, None where seeds cannot tell.

        Scores on a continuous scale differ by the same amount on every seed only where seeds change nothing, and then
        they are no repetitions.
        """
        if self.n < 2:
            return None
        nats = self.field.nats[[a, b]]
        apart = nats[0] - nats[1]
        rounding = ROUNDING * float(np.abs(nats).max())
        if float(np.ptp(apart)) <= rounding:
            return 0.0 if float(np.abs(apart).max()) <= rounding else None
        return float(self.found.error[a, b])

    def _p_value(self, mean: float, error: float | None) -> float | None:
        if not error:
            return None if error is None else 1.0
        return adjusted_p(self.family, self.rule.level, abs(mean) / error)

    def _half_with_texts(self, a: int, b: int, half: float) -> float | None:
        """For other seeds and other texts; every pair's with its share of the false alarms (Bonferroni)."""
        of_a, of_b = self.field.scores[a], self.field.scores[b]
        sources = of_a[0].document_sources
        if sources is None:
            return None
        nats = np.mean([of.document_nats for of in of_a], 0) - np.mean([of.document_nats for of in of_b], 0)
        level = 1 - (1 - self.rule.level) / self.family.pairs
        found = over_texts(nats, of_a[0].document_tokens, sources, level)
        return None if found is None else crossed(half, found.half)

    def _detectable(self, error: float) -> float:
        """The difference in nats that would be resolved in a share `power` of studies with this noise."""
        effect = detectable_effect(self.value, len(self.field.labels), self.n, self.rule.power)
        return effect * error * math.sqrt(self.n)

    def _seeds_needed(self, mean: float, error: float) -> SeedRange | None:
        if mean == 0.0:
            return None
        spread = error * math.sqrt(self.n)
        rule, family = self.rule, self.family
        return seed_range(mean, spread, self.n, family.arms, family.baseline, rule.level, rule.power)


def _record(of: Verdict, p_value: float | None, words: str) -> Pair:
    def around(half: float | None) -> tuple[float | None, float | None]:
        return (None, None) if half is None else (of.difference - half, of.difference + half)

    (low, high), (text_low, text_high) = around(of.half), around(of.half_with_texts)
    return Pair(
        a=of.a,
        b=of.b,
        difference=of.difference,
        low=low,
        high=high,
        text_low=text_low,
        text_high=text_high,
        level=None if of.half is None else of.level,
        p_value=p_value,
        resolved=of.resolved,
        detectable=of.detectable,
        seeds_needed=None if of.seeds_needed is None else list(of.seeds_needed),
        n_seeds=of.seeds,
        nominal=of.nominal,
        sentence=words,
    )
