"""What is answered of one arm: does it amplify, does it forget, which part matters, where does it break.

An answer is a sentence and whether it rests on a number; else the sentence says why there is none.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.analysis.character.inside import Inside, Seeds, inside, mean, numbers, told
from assay.analysis.character.parts import Effect, all_of, effects_of, in_nats, shares_of, which_matters
from assay.analysis.statistics import mean_interval
from assay.analysis.wording import counted, join_names

AMPLIFIES, DAMPS = 1.5, 0.5
"""Document 000's limits of a growth."""


class Answer(NamedTuple):
    """What is said of an arm; `applies` is whether it rests on a number."""

    text: str
    applies: bool = True


def amplifies(runs: Seeds) -> Answer:
    """By how much what its blocks pass on (the residual stream) grows with depth."""
    of = inside(runs, "signals")
    growth, whole = (list(numbers(of, f"growth_{how}_embedding").values()) for how in ("without", "with"))
    if any(len(one.values.get("std", ())) == 2 for one in of.values()):  # after the embedding and after the block
        return Answer("not applicable: it has one block, so that nothing grows from block to block.", False)
    if of and not growth:
        return Answer(f"{_when(of)}what its blocks pass on (the residual stream) is not finite.", False)
    if not growth:
        return _not_measured("signals")
    kinds = ["amplifies" if g > AMPLIFIES else "damps" if g < DAMPS else "neither amplifies nor damps" for g in growth]
    counts = Counter(kinds)
    verdict = (
        kinds[0] if len(counts) == 1 else join_names([f"{kind} on {counted(n, 'seed')}" for kind, n in counts.items()])
    )
    embedding = f"; from the embedding {told(whole, '{:.3g}x', ratios=True)}" if whole else ""
    grows = f"what its blocks pass on (the residual stream) grows {told(growth, '{:.3g}x', ratios=True)}"
    return Answer(f"{_when(of)}{verdict}: {grows} from the first block to the last{embedding}.")


def forgets(runs: Seeds) -> Answer:
    """How soon half of a change to its state is gone; that attention keeps what it reads is no number."""
    of = inside(runs, "state")
    if not of:
        return _not_measured("state")
    first = next(iter(of.values())).values
    fades = [one.values["half_life"] for one in of.values() if one.values["half_life"] is not None]
    attention = [part for one in of.values() for part in one.values["attention"]]
    if not fades and not attention:
        return Answer("not applicable: it carries nothing from token to token that can be looked at.", False)
    said = [_when(of) + _half_life(fades, max(first["lags"], default=0))] if fades else []
    if attention:
        back, equal = (mean([part[key] for part in attention]) for key in ("distance", "equal_distance"))
        kept = f"keys and values ({sum(first['bytes']):,} bytes{' with its state' if fades else ''} after "
        kept += f"{first['tokens']:,} tokens), and looks {back:.3g} tokens back on average (equal weights: {equal:.3g})"
        said.append(
            f"beside that it keeps {kept}" if fades else f"no half-life: it has no state that fades. It keeps {kept}"
        )
    return Answer(f"{'; '.join(said)}.", bool(fades))


def _half_life(fades: Sequence[Mapping[str, float | None]], longest: float) -> str:
    """Of the median channel, and how far the channels lie apart."""

    def known(key: str) -> list[float]:
        return [value for life in fades if (value := life[key]) is not None]

    medians, lows, highs = map(known, ("median", "low", "high"))
    if not medians:
        return f"keeps more than half of a change to its state over all of the {longest:,.0f} tokens looked at"
    censored = "" if len(medians) == len(fades) else f" on {len(medians)} of {len(fades)} seeds, longer on the others"
    ends = [f"a tenth of its channels within {mean(lows, True):.3g}"] if len(lows) == len(fades) else []
    if highs:
        ends.append(f"another tenth not before {min(highs):.3g}")
    else:
        ends.append(f"another tenth not within the {longest:,.0f} looked at")
    apart = f": {' and '.join(ends)}" if ends else ""
    return (
        f"forgets half of a change to its state within {told(medians, '{:.3g} tokens', ratios=True)}{censored}{apart}"
    )


def matters(runs: Seeds) -> Answer:
    """What the loss rises by without all mixers, without all MLPs, and without the part that costs most."""
    of = inside(runs, "contribution")
    effects = effects_of(of)
    if not effects:
        return _not_measured("contribution")
    single = [effect for effect in effects if effect.block is not None and effect.part in ("mixer", "mlp")]
    lines = []
    mixers, mlps = all_of(effects, "mixer"), all_of(effects, "mlp")
    if mixers is not None and mlps is not None:
        lines.append(f"{_more(mixers, mlps)}: {in_nats(mixers)} without any mixer, {in_nats(mlps)} without any MLP")
    elif mixers is not None:
        lines.append(f"it has mixers alone: {in_nats(mixers)} without any")
    if single:
        most = max(single, key=lambda effect: effect.over_seeds.mean)
        clear = most.over_seeds.low is not None and most.over_seeds.low > 0
        lines.append(
            f"the single part that matters most is {most.called}, {in_nats(most)}"
            if clear
            else "no single part's cost is clearly above zero"
        )
    shares = shares_of(of)
    if shares:
        lines.append("of its paths " + join_names([f"{name} has {share:.0%}" for name, share in shares.items()]))
    return Answer(f"{_when(of)}{'; '.join(lines)}.")


def _more(mixers: Effect, mlps: Effect) -> str:
    """Which costs more, in words."""
    return {
        "mixers": "its mixers matter more than its MLPs",
        "MLPs": "its MLPs matter more than its mixers",
        "unclear": "whether its mixers or its MLPs matter more is unclear",
        "one seed": "one seed does not tell whether its mixers or its MLPs matter more",
    }[which_matters(mixers, mlps)]


def breaks(runs: Seeds) -> Answer:
    """From which length of context on the same targets are predicted worse than at the training length."""
    of = {seed: results["context"].values for seed, results in runs.items() if "context" in results}
    if not of:
        known = [one for name in ("signals", "state") for one in inside(runs, name).values()]
        if known and all(one.untrained for one in known):
            return Answer("not applicable: untrained weights make no use of context.", False)
        return _not_measured("context")
    found = list(of.values())
    if found[0]["lacks"]:
        return Answer(f"not measured: {found[0]['lacks']}.", False)
    trained, beyond = found[0]["trained"], beyond_training(found)
    more = ""
    if found[0]["positions"] is not None:
        more = f" Beyond {found[0]['positions']:,} tokens: not applicable, it has learned positions for no more."
    elif found[0]["too_long"]:
        more = f" From {found[0]['too_long'][0]:,} tokens on: not measured, too few held-out documents are so long."
    if not beyond:
        return Answer(f"cannot be told: nothing longer than the {trained:,} tokens of training was asked.{more}", False)
    return Answer(_worse(beyond, trained) + more)


class Beyond(NamedTuple):
    """The loss at a length beyond the training length, less that at it, seed by seed."""

    tokens: int
    nats: Sequence[float]
    worse: bool
    """Whether the interval is above zero: over seeds, with one seed over texts (there against its best length)."""


def beyond_training(found: Sequence[Mapping[str, Any]]) -> list[Beyond]:
    """At every length beyond the training length that all seeds were asked; a loss that is not finite is worse."""
    by_length = [{at["tokens"]: at for at in values["lengths"]} for values in found]
    trained = found[0]["trained"]
    lengths = sorted(set.intersection(*(set(of) for of in by_length)))
    if trained not in lengths:
        return []
    beyond = []
    for tokens in lengths[lengths.index(trained) + 1 :]:
        nats = [float(of[tokens]["nats"]["mean"]) - float(of[trained]["nats"]["mean"]) for of in by_length]
        low = mean_interval(nats).low if len(nats) > 1 else by_length[0][tokens]["above_best"]["low"]
        beyond.append(Beyond(tokens, nats, (low is not None and low > 0) or not all(map(math.isfinite, nats))))
    return beyond


def _worse(beyond: Sequence[Beyond], trained: int) -> str:
    last = beyond[-1]
    first = next((at for at in beyond if at.worse), None)
    change = told(last.nats, "{:+.3f} nats")
    if first is None:
        times = f"{last.tokens / trained:.3g} times the {trained:,} it was trained on"
        return f"shows no clear rise up to {last.tokens:,} tokens, {times}: there its loss changes by {change}."
    there = f"there its loss is {told(first.nats, '{:+.3f} nats')} from that at the {trained:,} it was trained on"
    return f"gets worse from {first.tokens:,} tokens on: {there}" + (
        "." if first is last else f", and with {last.tokens:,} tokens {change}."
    )


def _when(of: Mapping[int, Inside]) -> str:
    return "untrained: " if all(one.untrained for one in of.values()) else ""


def _not_measured(measurement: str) -> Answer:
    return Answer(f"not measured; `assay measure --only {measurement}` asks it.", False)
