"""Every two arms of a study: paired differences, Holm's decision over all of them, and the sentence people read."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from assay.analysis.statistics import (
    ALPHA,
    MOST_FURTHER_SEEDS,
    PairedDifference,
    bootstrap_over_documents,
    holm,
    holm_levels,
    paired_difference,
    seeds_to_resolve,
)
from assay.records import Likelihood, Pair


class _Scores(NamedTuple):
    """Two arms over the seeds they share: test nats per token, and the likelihoods they come from."""

    a: str
    b: str
    nats_a: list[float]
    nats_b: list[float]
    tests_a: list[Likelihood]
    tests_b: list[Likelihood]


def compare_pairs(arms: Mapping[str, Mapping[int, Likelihood]], ranked: bool) -> list[Pair]:
    """Compare every two of `arms` (name -> seed -> test scores), in the order given.

    In a study that is not ranked no pair is resolved, whatever its interval says.
    """
    family = [
        _shared(a, b, arms[a], arms[b]) for a, b in itertools.combinations(arms, 2) if arms[a].keys() & arms[b].keys()
    ]
    tests = [paired_difference(scores.nats_a, scores.nats_b) for scores in family]
    # A pair without a p (one seed, no spread) is never resolved, but it is one of the pairs that were looked at.
    p_values = [1.0 if test.p_value is None else test.p_value for test in tests]
    adjusted, levels = holm(p_values), holm_levels(p_values)
    return [
        _pair(scores, p if test.p_value is not None else None, level, len(family), ranked)
        for scores, test, p, level in zip(family, tests, adjusted, levels, strict=True)
    ]


def decimals(*values: float | None) -> int:
    """How many decimals (3 to 6) show a digit of the smallest of `values`, so that no end is rounded to zero."""
    sizes = [abs(value) for value in values if value]
    return min(6, max(3, -math.floor(math.log10(min(sizes))))) if sizes else 3


def _shared(a: str, b: str, of_a: Mapping[int, Likelihood], of_b: Mapping[int, Likelihood]) -> _Scores:
    seeds = sorted(of_a.keys() & of_b.keys())
    tests_a, tests_b = [of_a[seed] for seed in seeds], [of_b[seed] for seed in seeds]
    return _Scores(
        a, b, [test.nats_per_token for test in tests_a], [test.nats_per_token for test in tests_b], tests_a, tests_b
    )


def _pair(scores: _Scores, p_value: float | None, level: float, family: int, ranked: bool) -> Pair:
    difference = paired_difference(scores.nats_a, scores.nats_b, level)
    over_documents = bootstrap_over_documents(
        [test.document_nats for test in scores.tests_a],
        [test.document_nats for test in scores.tests_b],
        scores.tests_a[0].document_tokens,
        seed=0,
    )
    resolved = ranked and p_value is not None and p_value < ALPHA
    return Pair(
        a=scores.a,
        b=scores.b,
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
        level=None if difference.low is None else level,
        p_value=p_value,
        resolved=resolved,
        bootstrap_low=over_documents[0] if over_documents else None,
        bootstrap_high=over_documents[1] if over_documents else None,
        n_seeds=len(scores.nats_a),
        sentence=_sentence(scores, difference, level, family, ranked, resolved),
    )


def _sentence(
    scores: _Scores, difference: PairedDifference, level: float, family: int, ranked: bool, resolved: bool
) -> str:
    if difference.mean == 0.0 and not difference.low:
        return f"{scores.a} and {scores.b} score the same on every seed: not resolved."
    ahead = difference.mean < 0
    first, second = (scores.a, scores.b) if ahead else (scores.b, scores.a)
    digits = decimals(difference.mean, difference.low, difference.high)
    by = f"by {abs(difference.mean):.{digits}f} nats per token"
    if len(scores.nats_a) == 1:
        return f"{first} is ahead of {second} {by} (one seed: nothing is resolved)."
    if difference.low is None or difference.high is None:
        return (
            f"{first} is ahead of {second} {by}, exactly the same on each of {len(scores.nats_a)} seeds: seeds that "
            "change nothing are no repetitions, so not resolved."
        )
    low, high = (-difference.high, -difference.low) if ahead else (difference.low, difference.high)
    evidence = (
        f"({100 * level:.4g}% interval {low:.{digits}f} to {high:.{digits}f}, {len(scores.nats_a)} seeds, "
        f"Holm over {family} pair{'s' if family > 1 else ''})"
    )
    if resolved:
        return f"{first} beats {second} {by} {evidence}: resolved."
    if not ranked:
        return f"{first} is ahead of {second} {by} {evidence}: not resolved, as this study is not ranked."
    return f"{first} is ahead of {second} {by} {evidence}: not resolved; {_further(scores, level)}."


def _further(scores: _Scores, level: float) -> str:
    differences: Sequence[float] = [a - b for a, b in zip(scores.nats_a, scores.nats_b, strict=True)]
    further = seeds_to_resolve(differences, level)
    if further is None:
        return f"more than {MOST_FURTHER_SEEDS} further seeds would be needed at this spread"
    return f"about {further} further seed{'s' if further > 1 else ''} would decide at this spread"
