"""What an architecture is like, in three to eight sentences, from stated rules and the numbers of its runs.

An arm is said to differ from another only where the interval of the paired difference over seeds excludes zero, at a
level that holds for all comparisons together (Bonferroni).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from assay.analysis.character.inside import Runs, Seeds, between, column_values, mean
from assay.analysis.statistics import LEVEL, mean_interval
from assay.analysis.wording import join_names
from assay.records import Column, Results

MOST_SENTENCES = 8
SCORE = "nats_per_token"
SCORES = (SCORE, "recall")
"""The columns of what is a strength or a weakness; the others are only traits."""


class Trait(NamedTuple):
    """A column of a measurement, and what it means to have more or less of it."""

    measurement: str
    key: str
    more: str
    less: str
    form: str
    own: str
    """How the arm's own number is told; empty where only differences are."""
    ratios: bool = True
    """Whether it is compared as a ratio."""


TRAITS = (
    Trait("signals", "growth", "amplifies more", "amplifies less", "{:.3g}x", "Its stream grows {} with depth"),
    Trait("signals", "mixer_gain", "has the louder mixers", "has the quieter mixers", "{:.3g}x",
          "A mixer returns {} of what it reads"),
    Trait("state", "half_life", "forgets later", "forgets sooner", "{:.3g} tokens",
          "Its state forgets half of a change within {}"),
    Trait("state", "fullness", "has the fuller state", "has the emptier state", "{:.0%}",
          "Its state uses {} of the directions that random numbers use", False),
    Trait("state", "attention_distance", "looks farther back", "looks less far back", "{:.3g} tokens",
          "Its attention looks back {}"),
    Trait("gradients", "noise_scale", "has the noisier gradients", "has the clearer gradients", "{:,.0f} tokens",
          "Its gradients are as large as their noise in a batch of {}"),
    Trait("likelihood", SCORE, "predicts worse", "predicts better", "{:.3f} nats", "", False),
    Trait("recall", "recall", "predicts repeated tokens worse", "predicts repeated tokens better", "{:.3f} nats", "",
          False),
)  # fmt: skip
"""In the order in which they are told."""
WORDS = {
    ("signals", "verdict"): "signal {}",
    ("gradients", "verdict"): "gradients {}",
    ("output_health", "verdict"): "output {}",
    ("document_checks", "checks"): "of the documents' checks {}",
}
"""Texts that are told as they are, where all seeds agree."""


class Difference(NamedTuple):
    """A trait in which two arms differ."""

    trait: Trait
    other: str
    more: bool
    mine: float
    others: float


def in_words(runs: Runs) -> dict[str, list[str]]:
    """Label -> its sentences: its own numbers first, then how it differs from the others."""
    differences = {label: list(differences_of(label, runs)) for label in runs}
    return {label: _sentences(label, of, differences[label], len(runs)) for label, of in runs.items()}


def _sentences(label: str, runs: Seeds, differences: Sequence[Difference], arms: int) -> list[str]:
    lines = []
    for trait in TRAITS:
        values = list(column_values(runs, trait.measurement, trait.key).values())
        if trait.own and values:
            number = trait.form.format(mean(values, trait.ratios))
            lines.append(f"{trait.own.format(number)}{between(values, trait.form)}.")
    said = [form.format(text) for (measurement, key), form in WORDS.items()
            if (text := _text(runs, measurement, key)) is not None]  # fmt: skip
    own = lines[: MOST_SENTENCES - 4]
    if said:
        told_as_they_are = ", ".join(said)
        own.append(f"{told_as_they_are[0].upper()}{told_as_they_are[1:]}.")
    if arms < 2:
        return own
    for title, better in (("Strengths", True), ("Weaknesses", False)):
        of = [d for d in differences if d.trait.key in SCORES and (not d.more) == better]
        if of:
            own.append(f"{title} of {label}: {_told(of)}.")
    other = [d for d in differences if d.trait.key not in SCORES]
    if other:
        own.append(f"{label} {_told(other)}.")
    elif not differences:
        told_by = "One seed tells" if len(runs) < 2 else "These seeds tell"
        own.append(f"{told_by} {label} from no other arm in any of these numbers.")
    return own


def _told(differences: Sequence[Difference]) -> str:
    """By trait and direction, with the arms and both numbers."""
    parts = []
    for trait in TRAITS:
        for more in (True, False):
            of = [d for d in differences if d.trait is trait and d.more == more]
            if of:
                others = join_names([f"{d.other} ({trait.form.format(d.others)})" for d in of])
                parts.append(f"{trait.more if more else trait.less} ({trait.form.format(of[0].mine)}) than {others}")
    return "; ".join(parts)


def differences_of(label: str, runs: Runs) -> Iterator[Difference]:
    """The traits in which the arm is told from another one."""
    comparisons = max(1, len(TRAITS) * len(runs) * (len(runs) - 1) // 2)
    level = 1 - (1 - LEVEL) / comparisons
    for trait in TRAITS:
        mine = column_values(runs[label], trait.measurement, trait.key)
        for other, of in runs.items():
            others = column_values(of, trait.measurement, trait.key)
            seeds = sorted(mine.keys() & others.keys())
            if other == label or len(seeds) < 2:
                continue
            a, b = ([_scaled(values[seed], trait) for seed in seeds] for values in (mine, others))
            if not all(map(math.isfinite, a + b)):
                continue
            found = mean_interval([x - y for x, y in zip(a, b, strict=True)], level)
            if found.low is not None and found.high is not None and (found.low > 0 or found.high < 0):
                means = (mean([values[seed] for seed in seeds], trait.ratios) for values in (mine, others))
                yield Difference(trait, other, found.mean > 0, *means)


def _columns(results: Results, measurement: str, key: str) -> list[Column]:
    return [] if measurement not in results else [of for of in results[measurement].columns if of.key == key]


def _scaled(value: float, trait: Trait) -> float:
    return value if not trait.ratios else math.log(value) if value > 0 else -math.inf


def _text(runs: Seeds, measurement: str, key: str) -> str | None:
    """What all seeds say."""
    texts = {column.text for results in runs.values() for column in _columns(results, measurement, key)}
    return next(iter(texts)) if len(texts) == 1 else None
