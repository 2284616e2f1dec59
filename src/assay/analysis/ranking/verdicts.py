"""The sentence that says of two arms which is ahead, by how much, how surely, and what would be needed to tell."""

import math
from typing import NamedTuple

from assay.analysis.intervals.power import SeedRange
from assay.analysis.wording import counted

TWO_SEEDS = "from two seeds alone (one degree of freedom)"
"""What stands beside every verdict of two seeds: their spread is known from one difference."""


class Verdict(NamedTuple):
    """What is known of the difference a - b of two arms, in nats per token."""

    a: str
    b: str
    difference: float
    half: float | None
    """The half-width of the interval over seeds; None where seeds cannot tell, 0 where both always score the same."""
    half_with_texts: float | None
    """That of the interval over seeds and texts; None where there is none."""
    level: float
    pairs: int
    """How many pairs the level is for."""
    seeds: int
    resolved: bool
    not_ranked: str | None
    """What is not ranked, the study or a size of it, or None."""
    nominal: str | None
    """What the verdict rests on that was added after a look, or None."""
    power: float
    detectable: float | None
    """The difference that would be resolved in a share `power` of such studies, of a pair that is not."""
    seeds_needed: SeedRange | None
    scored_on: str = "texts"
    """What the arms are scored on, in a word: texts, or sequences of a task."""


def sentence(of: Verdict) -> str:
    """Which arm is ahead, by how much, with which intervals, and whether that is resolved."""
    if of.half == 0:
        return f"{of.a} and {of.b} score the same on every seed: not resolved."
    ahead = of.difference < 0
    first, second = (of.a, of.b) if ahead else (of.b, of.a)
    digits = decimals(of.difference, *(abs(of.difference) + sign * (of.half or 0.0) for sign in (-1, 1)))
    by = f"by {abs(of.difference):.{digits}f} nats per token"
    if of.seeds == 1:
        return f"{first} is ahead of {second} {by} (one seed: nothing is resolved)."
    if of.half is None:
        return (
            f"{first} is ahead of {second} {by}, exactly the same on each of {of.seeds} seeds: seeds that "
            "change nothing are no repetitions, so not resolved."
        )
    verb = "beats" if of.resolved else "is ahead of"
    return f"{first} {verb} {second} {by} ({_intervals(of, digits)}): {_verdict(of, digits)}."


def decimals(*values: float | None, fewest: int = 3) -> int:
    """How many decimals (`fewest` to 6) show a digit of the smallest of `values`, so that no end is rounded to zero."""
    sizes = [abs(value) for value in values if value]
    return min(6, max(fewest, -math.floor(math.log10(min(sizes))))) if sizes else fewest


def _intervals(of: Verdict, digits: int) -> str:
    """ "95% interval 0.056 to 0.334 over 5 seeds, 0.012 to 0.378 for other texts too"."""
    size = abs(of.difference)
    together = "" if of.pairs == 1 else f", {of.pairs} pairs together"
    text = f"{100 * of.level:.4g}% interval {size - (of.half or 0):.{digits}f} to {size + (of.half or 0):.{digits}f}"
    text += f" over {of.seeds} seeds"
    if of.half_with_texts is not None:
        low, high = size - of.half_with_texts, size + of.half_with_texts
        text += f", {low:.{digits}f} to {high:.{digits}f} for other {of.scored_on} too"
    return text + together


def _verdict(of: Verdict, digits: int) -> str:
    """Resolved or not, whether that is nominal, and what would be resolved."""
    if of.resolved:
        where = (
            "" if of.half_with_texts is None or abs(of.difference) > of.half_with_texts else f" on these {of.scored_on}"
        )
        few = f", {TWO_SEEDS}" if of.seeds == 2 else ""
        return f"resolved{where}{few}" if of.nominal is None else f"nominally resolved{where}{few}, as {of.nominal}"
    if of.not_ranked is not None:
        return f"not resolved, as this {of.not_ranked} is not ranked"
    nominally = "" if of.nominal is None else f" (nominally, as {of.nominal})"
    if of.detectable is None:
        return f"not resolved{nominally}"
    share = f"{100 * of.power:.4g}%"
    text = f"not resolved{nominally}; a difference of {of.detectable:.{digits}f} would be in {share} of such studies"
    if of.seeds_needed is not None:
        text += f", and one as seen takes {_rough(of.seeds_needed)}"
    return text


def _rough(of: SeedRange) -> str:
    """ "about 24 to 160 seeds", with two digits, as no more is known."""
    low, high = (float(f"{seeds:.2g}") for seeds in of)
    return f"about {low:,.0f} to {high:,.0f} seeds" if low != high else f"about {counted(round(low), 'seed')}"
