"""What the verdicts on all pairs rest on: the rule and its promise, planned looks, texts, seeds that stand apart."""

from collections.abc import Sequence

import numpy as np

from assay.analysis.intervals.outlying import stands_apart
from assay.analysis.intervals.texts import FEWEST_SOURCES
from assay.analysis.ranking.contests import Contest
from assay.analysis.ranking.pairs import family_of
from assay.analysis.ranking.verdicts import TWO_SEEDS
from assay.analysis.rule import Rule
from assay.analysis.wording import counted, join_names
from assay.records import Likelihood, Pair, Split

ORDINALS = ("first", "second", "third", "fourth", "fifth")


def said(
    contests: Sequence[Contest], pairs: Sequence[Pair], rule: Rule, split: Split, scored_on: str = "texts"
) -> list[str]:
    """One sentence each, in this order; those that have nothing to say are left out.

    `scored_on`: what the arms are scored on, in a word.
    """
    lines = [_rule(pairs, rule, split), *_promise(contests, pairs, rule), *_looks(pairs, rule)]
    lines += [line for contest in contests for line in _apart(contest)]
    return lines + _texts(contests, pairs, scored_on)


def _rule(pairs: Sequence[Pair], rule: Rule, split: Split) -> str:
    at = f"{100 * rule.level:.4g}%"
    start = f"Rule: paired differences of {split} nats per token over seeds"
    if rule.baseline is not None:
        start += f", of {rule.baseline} to each other arm"
    if not pairs:
        return f"{start}; no pair to decide."
    if len(pairs) == 1:
        return f"{start}; the pair is resolved where its {at} interval excludes zero."
    together = f"the {at} intervals of all {len(pairs)} pairs hold together"
    return f"{start}; {together}, and a pair is resolved where its own excludes zero."


def _promise(contests: Sequence[Contest], pairs: Sequence[Pair], rule: Rule) -> list[str]:
    """Where the share of false alarms is promised for fewer shapes of noise than usual."""
    seeds = max((pair.n_seeds for pair in pairs), default=0)
    arms = tuple(len(contest.compared) for contest in contests if len(contest.compared) > 1)
    if seeds < 2 or not arms or family_of(arms, seeds, rule).in_any_shape(rule.level):
        return []
    return [
        f"{counted(seeds, 'seed')} for {counted(len(pairs), 'pair')}: {100 * (1 - rule.level):.3g}% false alarms are "
        "promised for noise with one peak, not where training ends on one of two plateaus; more seeds would do."
    ]


def _looks(pairs: Sequence[Pair], rule: Rule) -> list[str]:
    """Where the study stands in its plan of looks."""
    if not rule.looks:
        return []
    plan = f"Looks planned after {join_names([str(look) for look in rule.looks])} seeds"
    if not pairs:
        return [f"{plan}: there is no pair to decide, so that the study stops at the first."]
    seeds = max(pair.n_seeds for pair in pairs)
    if seeds not in rule.looks:
        return [f"{plan}; with {counted(seeds, 'seed')} no look was planned."]
    index = rule.looks.index(seeds)
    which = ORDINALS[index] if index < len(ORDINALS) else f"{index + 1}th"
    if all(pair.resolved for pair in pairs):
        what = "the one pair is" if len(pairs) == 1 else f"all {len(pairs)} pairs are"
        few = f", {TWO_SEEDS}" if seeds == 2 else ""
        return [f"{plan}: stopped at the {which}, as {what} resolved{few}. Intervals of pairs allow for stopping."]
    return [f"{plan}: at the {which}, with {counted(seeds, 'seed')}. Intervals of pairs allow for stopping."]


def _apart(contest: Contest) -> list[str]:
    """A seed that stands apart, of the arms that are compared."""
    compared = contest.compared
    seeds = sorted(set.intersection(*(set(of.scores) for of in compared))) if compared else []
    if len(compared) < 2 or len(seeds) < 3:
        return []
    found = stands_apart(np.array([[of.scores[seed].nats_per_token for seed in seeds] for of in compared]))
    if found is None:
        return []
    label, where = compared[found.arm].label, "above" if found.above > 0 else "below"
    text = (
        f"seed {seeds[found.seed]} of {label} stands apart: {abs(found.above):.3f} nats {where} what the other runs "
        "suggest. With such seeds in one arm alone the share of false alarms is not promised"
    )
    text = contest.named(text)
    return [f"{text[0].upper()}{text[1:]}."]


def _texts(contests: Sequence[Contest], pairs: Sequence[Pair], scored_on: str) -> list[str]:
    """Which verdicts hold for the texts that were read alone, or why that is not known."""
    able = [pair for pair in pairs if pair.low is not None and pair.low != pair.high]
    if not able:
        return []
    if all(pair.text_low is None for pair in able):
        return [_why_no_texts(contests, scored_on)]
    only = [
        f"{pair.a} and {pair.b}"
        for pair in able
        if pair.resolved and pair.text_low is not None and pair.text_high is not None
        if pair.text_low <= 0 <= pair.text_high
    ]
    return [f"On other {scored_on} of this kind the order may be another for {'; '.join(only)}."] if only else []


def _why_no_texts(contests: Sequence[Contest], scored_on: str) -> str:
    scores: list[Likelihood] = [s for contest in contests for of in contest.compared for s in of.scores.values()]
    sources = scores[0].document_sources if scores else None
    start = f"The intervals speak of these {scored_on} alone"
    if sources is None:
        return f"{start}: from which sources they are is not known, so there is no interval for other {scored_on}."
    few = counted(len(set(sources)), "source")
    return f"{start}: they are from {few}, and an interval for other {scored_on} takes {FEWEST_SOURCES}."
