"""Which two architectures to fuse, from what was measured of each alone, by rules that are stated beside the answer.

A rule holds, does not hold, or is unclear: where the interval over seeds lies on both sides of its limit. All
intervals of the table hold together (Bonferroni). What fusing two gains can only be measured of the fused model.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from assay.analysis.character.answers import AMPLIFIES
from assay.analysis.character.inside import (
    Kind,
    Runs,
    Seeds,
    column_values,
    inside,
    mean,
    numbers,
    ratio_interval,
)
from assay.analysis.statistics import LEVEL, mean_interval
from assay.analysis.wording import counted, join_names
from assay.records import Interval

LONGER = 2.0
"""Two memories differ where one half-life is so many times the other."""
LOUDER = 3.0
"""The documents' limit of a balance (gate G4: 0.3 to 3)."""
Outcome = Literal["yes", "no", "unclear", "not measured"]
Advice = Literal["fuse", "do not fuse", "no recommendation"]
RULES = {
    "steadier": f"one of them amplifies (growth above {AMPLIFIES:g}x) and the other does not",
    "memory": f"one forgets at least {LONGER:g} times as late as the other, or only one of them has a state that fades",
    "tokens": "one predicts repeated tokens better (bigrams of its own context) and the other all others",
    "balance": f"their mixers' outputs are of one size: the gains within {LOUDER:g} times of each other",
}
"""The first three are reasons, the last is what fusing needs."""
ADVICE = (
    "Fuse where two of the first three hold; do not where none of the three does; else, and where intervals do not "
    "tell, no recommendation. Without balance each path needs a norm of its own. No fused model was looked at for "
    "this: a twin arm, trained beside the two, tests it."
)


class Ruling(NamedTuple):
    """What one rule says of a pair, with the numbers that it went by."""

    outcome: Outcome
    numbers: str


class FusionPair(NamedTuple):
    """Two arms, what is advised, and what each of `RULES` says."""

    a: str
    b: str
    advice: Advice
    rulings: Mapping[str, Ruling]

    @property
    def sentence(self) -> str:
        """In words, with what every rule says."""
        balance = (
            " (a norm on each path first)" if self.advice == "fuse" and self.rulings["balance"].outcome == "no" else ""
        )
        said = "; ".join(f"{name}: {of.outcome} ({of.numbers})" if of.numbers else f"{name}: {of.outcome}"
                         for name, of in self.rulings.items())  # fmt: skip
        return f"{self.a} and {self.b}: {self.advice}{balance}. {said[0].upper()}{said[1:]}."


def fusion_pairs(runs: Runs, kinds: Mapping[str, Kind]) -> list[FusionPair]:
    """Every two arms of different architectures and one initialisation, those to fuse first; none that is fused.

    An arm of which neither signals nor state were measured is in no pair.
    """
    alone = [label for label, of in runs.items() if (inside(of, "signals") or inside(of, "state")) and not _fused(of)]
    pairs = [
        (a, b)
        for a, b in combinations(alone, 2)
        if kinds[a].architecture != kinds[b].architecture and kinds[a].initialisation == kinds[b].initialisation
    ]
    intervals = len(alone) + 4 * len(pairs)  # growths; of each pair memory, both kinds of tokens, balance
    level = 1 - (1 - LEVEL) / intervals if pairs else LEVEL
    found = [_pair(a, b, runs[a], runs[b], level) for a, b in pairs]
    order: tuple[Advice, ...] = ("fuse", "no recommendation", "do not fuse")
    return sorted(found, key=lambda pair: order.index(pair.advice))


def in_short(pairs: Sequence[FusionPair]) -> str:
    """Which pairs to fuse, which not, and of how many there is no recommendation."""
    named = {
        advice: join_names([f"{pair.a} with {pair.b}" for pair in pairs if pair.advice == advice], "or")
        for advice in ("fuse", "do not fuse")
        if any(pair.advice == advice for pair in pairs)
    }
    said = [f"{advice} {of}" for advice, of in named.items()]
    rest = sum(pair.advice == "no recommendation" for pair in pairs)
    if rest:
        which = f"any of {counted(rest, 'pair')}" if rest == len(pairs) > 1 else f"the other {counted(rest, 'pair')}"
        said.append(f"no recommendation for {'this pair' if len(pairs) == 1 else which}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _fused(of: Seeds) -> bool:
    return any(one.values["shares"] for one in inside(of, "contribution").values())


def _pair(a: str, b: str, of_a: Seeds, of_b: Seeds, level: float) -> FusionPair:
    rulings = {
        "steadier": _steadier(of_a, of_b, level),
        "memory": _memory(of_a, of_b, level),
        "tokens": _tokens(of_a, of_b, level),
        "balance": _balance(of_a, of_b, level),
    }
    reasons = [of.outcome for name, of in rulings.items() if name != "balance"]
    advice: Advice = "no recommendation"
    if reasons.count("yes") >= 2:
        advice = "fuse"
    elif reasons.count("no") == len(reasons):
        advice = "do not fuse"
    return FusionPair(a, b, advice, rulings)


def _steadier(of_a: Seeds, of_b: Seeds, level: float) -> Ruling:
    growths = [list(numbers(inside(of, "signals"), "growth_without_embedding").values()) for of in (of_a, of_b)]
    if not all(growths):
        return Ruling("not measured", "")
    above = [_above(ratio_interval(values, level), AMPLIFIES) for values in growths]
    shown = " and ".join(f"{mean(values, ratios=True):.3g}x" for values in growths)
    if None in above:
        return Ruling("unclear", shown)
    return Ruling("yes" if above[0] != above[1] else "no", shown)


def _above(found: Interval | None, limit: float) -> bool | None:
    """Whether the whole interval lies above the limit; None where it does not tell."""
    if found is None or found.low is None or found.high is None or found.low <= limit <= found.high:
        return None
    return found.low > limit


def _memory(of_a: Seeds, of_b: Seeds, level: float) -> Ruling:
    profiles = [inside(of, "state") for of in (of_a, of_b)]
    if not all(profiles):
        return Ruling("not measured", "")
    fades = [any(one.values["half_life"] is not None for one in of.values()) for of in profiles]
    lives = [numbers(of, "half_life", "median") for of in profiles]
    shown = " and ".join(
        f"{mean(list(values.values()), ratios=True):.3g} tokens"
        if values
        else "longer than looked at"
        if fade
        else "a cache"
        for values, fade in zip(lives, fades, strict=True)
    )
    if fades[0] != fades[1]:
        return Ruling("yes", shown)
    if not fades[0]:
        return Ruling("no", shown)
    return Ruling(_differ(_ratio(lives[0], lives[1], level), LONGER), shown)


def _tokens(of_a: Seeds, of_b: Seeds, level: float) -> Ruling:
    differences = []
    shown = []
    for key, called in (("recall", "repeated"), ("other", "others")):
        a, b = (column_values(of, "recall", key) for of in (of_a, of_b))
        seeds = sorted(a.keys() & b.keys())
        if not seeds:
            return Ruling("not measured", "")
        found = mean_interval([a[seed] - b[seed] for seed in seeds], level)
        differences.append(_above(found, 0.0))
        shown.append(f"{called} {found.mean:+.3f} nats")
    numbers_ = f"first minus second: {', '.join(shown)}"
    if None in differences:
        return Ruling("unclear", numbers_)
    return Ruling("yes" if differences[0] != differences[1] else "no", numbers_)


def _balance(of_a: Seeds, of_b: Seeds, level: float) -> Ruling:
    gains = [numbers(inside(of, "signals"), "mixer_gain") for of in (of_a, of_b)]
    if not all(gains):
        return Ruling("not measured", "")
    shown = " and ".join(f"{mean(list(values.values()), ratios=True):.3g}x" for values in gains)
    outcome = _differ(_ratio(gains[0], gains[1], level), LOUDER)
    flipped: dict[Outcome, Outcome] = {"yes": "no", "no": "yes"}
    return Ruling(flipped.get(outcome, outcome), shown)


def _ratio(a: Mapping[int, float], b: Mapping[int, float], level: float) -> Interval | None:
    """Of a / b, seed by seed; None where a value is not above zero."""
    seeds = sorted(a.keys() & b.keys())
    if any(of[seed] <= 0 for of in (a, b) for seed in seeds):
        return None
    return ratio_interval([a[seed] / b[seed] for seed in seeds], level)


def _differ(ratio: Interval | None, times: float) -> Outcome:
    """Whether one is so many times the other, whichever: yes or no where the whole interval says so."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return "unclear"
    if ratio.low >= times or ratio.high <= 1 / times:
        return "yes"
    return "no" if 1 / times < ratio.low and ratio.high < times else "unclear"
