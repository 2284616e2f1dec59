"""Every two arms of one size: paired differences, the rule's decision over all of them, the sentence people read."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from assay.analysis.rule import USUAL_RULE, Rule
from assay.analysis.statistics import (
    MOST_FURTHER_SEEDS,
    PairedDifference,
    bootstrap_over_documents,
    holm,
    holm_levels,
    paired_difference,
    seeds_to_resolve,
)
from assay.analysis.wording import counted
from assay.records import Likelihood, Pair


class Ranking(NamedTuple):
    """The arms of one size, which are compared with each other and with no others."""

    arms: Mapping[str, Mapping[int, Likelihood]]
    """Label -> seed -> scores."""
    ranked: bool
    what: str = "study"
    """What is not ranked where it is not: the study, or one size of it."""


class _Scores(NamedTuple):
    """Two arms over the seeds they share: nats per token, and the likelihoods they come from."""

    a: str
    b: str
    of_a: list[Likelihood]
    of_b: list[Likelihood]
    seeds: list[int]
    ranking: Ranking

    @property
    def nats_a(self) -> list[float]:
        return [scores.nats_per_token for scores in self.of_a]

    @property
    def nats_b(self) -> list[float]:
        return [scores.nats_per_token for scores in self.of_b]


class _Decision(NamedTuple):
    """What the rule says of one pair."""

    difference: PairedDifference
    level: float
    family: str
    """Over how many pairs it was corrected, in words."""
    resolved: bool
    nominal: str | None


Nominal = Callable[[str, str, Sequence[int]], str | None]
"""What was added after a look, of two arms and their seeds."""


def compare_pairs(
    rankings: Sequence[Ranking], rule: Rule = USUAL_RULE, nominal: Nominal = lambda *_: None
) -> list[Pair]:
    """Compare every two arms of each of `rankings`, in the order given; the correction is over all pairs of all.

    Of arms that are not ranked no pair is resolved, whatever its interval says.
    """
    family = [
        _shared(a, b, ranking)
        for ranking in rankings
        for a, b in itertools.combinations(ranking.arms, 2)
        if ranking.arms[a].keys() & ranking.arms[b].keys()
    ]
    tests = [paired_difference(scores.nats_a, scores.nats_b) for scores in family]
    # A pair without a p (one seed, no spread) is never resolved, but it is one of the pairs that were looked at.
    p_values = [1.0 if test.p_value is None else test.p_value for test in tests]
    alpha = 1 - rule.level
    corrected = rule.correction == "holm"
    adjusted = holm(p_values) if corrected else p_values
    levels = holm_levels(p_values, alpha) if corrected else [rule.level] * len(family)
    pairs = []
    for scores, test, p_value, level in zip(family, tests, adjusted, levels, strict=True):
        decision = _Decision(
            difference=paired_difference(scores.nats_a, scores.nats_b, level),
            level=level,
            family=over_pairs(rule, len(family)),
            resolved=scores.ranking.ranked and test.p_value is not None and p_value < alpha,
            nominal=nominal(scores.a, scores.b, scores.seeds),
        )
        pairs.append(_pair(scores, decision, None if test.p_value is None else p_value, rule))
    return pairs


def over_pairs(rule: Rule, pairs: int) -> str:
    """Holm over 3 pairs; each of 3 pairs without a correction."""
    if rule.correction == "holm":
        return f"Holm over {counted(pairs, 'pair')}"
    return f"no correction for {counted(pairs, 'pair')}"


def decimals(*values: float | None) -> int:
    """How many decimals (3 to 6) show a digit of the smallest of `values`, so that no end is rounded to zero."""
    sizes = [abs(value) for value in values if value]
    return min(6, max(3, -math.floor(math.log10(min(sizes))))) if sizes else 3


def _shared(a: str, b: str, ranking: Ranking) -> _Scores:
    of_a, of_b = ranking.arms[a], ranking.arms[b]
    seeds = sorted(of_a.keys() & of_b.keys())
    return _Scores(a, b, [of_a[seed] for seed in seeds], [of_b[seed] for seed in seeds], seeds, ranking)


def _pair(scores: _Scores, decision: _Decision, p_value: float | None, rule: Rule) -> Pair:
    difference = decision.difference
    over_documents = bootstrap_over_documents(
        [of.document_nats for of in scores.of_a],
        [of.document_nats for of in scores.of_b],
        scores.of_a[0].document_tokens,
        seed=0,
        level=rule.level,
    )
    return Pair(
        a=scores.a,
        b=scores.b,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
        level=None if difference.low is None else decision.level,
        p_value=p_value,
        resolved=decision.resolved,
        bootstrap_low=over_documents[0] if over_documents else None,
        bootstrap_high=over_documents[1] if over_documents else None,
        n_seeds=len(scores.seeds),
        nominal=decision.nominal,
        sentence=_sentence(scores, decision),
    )


def _sentence(scores: _Scores, decision: _Decision) -> str:
    difference = decision.difference
    if difference.mean == 0.0 and not difference.low:
        return f"{scores.a} and {scores.b} score the same on every seed: not resolved."
    ahead = difference.mean < 0
    first, second = (scores.a, scores.b) if ahead else (scores.b, scores.a)
    digits = decimals(difference.mean, difference.low, difference.high)
    by = f"by {abs(difference.mean):.{digits}f} nats per token"
    if len(scores.seeds) == 1:
        return f"{first} is ahead of {second} {by} (one seed: nothing is resolved)."
    if difference.low is None or difference.high is None:
        return (
            f"{first} is ahead of {second} {by}, exactly the same on each of {len(scores.seeds)} seeds: seeds that "
            "change nothing are no repetitions, so not resolved."
        )
    low, high = (-difference.high, -difference.low) if ahead else (difference.low, difference.high)
    evidence = (
        f"({100 * decision.level:.4g}% interval {low:.{digits}f} to {high:.{digits}f}, {len(scores.seeds)} seeds, "
        f"{decision.family})"
    )
    verb = "beats" if decision.resolved else "is ahead of"
    return f"{first} {verb} {second} {by} {evidence}: {_verdict(scores, decision)}."


def _verdict(scores: _Scores, decision: _Decision) -> str:
    """Resolved or not, whether that is nominal, and what would decide."""
    if decision.resolved:
        return "resolved" if decision.nominal is None else f"nominally resolved, as {decision.nominal}"
    if not scores.ranking.ranked:
        return f"not resolved, as this {scores.ranking.what} is not ranked"
    nominally = "" if decision.nominal is None else f" (nominally, as {decision.nominal})"
    return f"not resolved{nominally}; {_further(scores, decision.level)}"


def _further(scores: _Scores, level: float) -> str:
    differences = [a - b for a, b in zip(scores.nats_a, scores.nats_b, strict=True)]
    further = seeds_to_resolve(differences, level)
    if further is None:
        return f"more than {MOST_FURTHER_SEEDS} further seeds would be needed at this spread"
    return f"about {counted(further, 'further seed')} would decide at this spread"
