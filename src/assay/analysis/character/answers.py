"""What is answered of one arm: does it amplify, does it forget, which part matters, where does it break.

An answer is a sentence and whether it rests on a number; else the sentence says why there is none.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.analysis.character.inside import Inside, Seeds, inside, mean, numbers, told
from assay.analysis.character.parts import Effect, all_of, effects_of, in_nats, shares_of
from assay.analysis.statistics import mean_interval
from assay.analysis.wording import join_names

AMPLIFIES, DAMPS = 1.5, 0.5
"""Document 000's limits of a growth."""


class Answer(NamedTuple):
    """What is said of an arm; `applies` is whether it rests on a number."""

    text: str
    applies: bool = True


def amplifies(runs: Seeds) -> Answer:
    """By how much what its blocks pass on grows with depth."""
    of = inside(runs, "signals")
    growth, whole = (list(numbers(of, f"growth_{how}_embedding").values()) for how in ("without", "with"))
    if not growth:
        return _not_measured("signals")
    kinds = ["amplifies" if g > AMPLIFIES else "damps" if g < DAMPS else "neither amplifies nor damps" for g in growth]
    counts = Counter(kinds)
    verdict = kinds[0] if len(counts) == 1 else join_names([f"{kind} on {n} seeds" for kind, n in counts.items()])
    embedding = f"; from the embedding {told(whole, '{:.3g}x', ratios=True)}" if whole else ""
    return Answer(
        f"{_when(of)}{verdict}: what its blocks pass on grows {told(growth, '{:.3g}x', ratios=True)} from the first "
        f"block to the last{embedding}."
    )


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
    said = [_when(of) + _half_life(fades, first["lags"][-1])] if fades else []
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
    if len(highs) == len(fades):
        ends.append(f"another tenth not before {mean(highs, True):.3g}")
    elif not highs:
        ends.append(f"another tenth not within the {longest:,.0f} looked at")
    apart = f": {' and '.join(ends)}" if ends else ""
    return f"forgets half of a change to its state within {told(medians, ratios=True)} tokens{censored}{apart}"


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
        more = _more(mixers, mlps)
        lines.append(f"{more} ({in_nats(mixers)} without any mixer, {in_nats(mlps)} without any MLP)")
    elif mixers is not None:
        lines.append(f"it has mixers alone ({in_nats(mixers)} without any)")
    if single:
        most = max(single, key=lambda effect: effect.over_seeds.mean)
        clear = most.over_seeds.low is not None and most.over_seeds.low > 0
        lines.append(
            f"the single part that matters most is {most.called}, {in_nats(most)}"
            if clear
            else "no single part costs what is told from zero"
        )
    shares = shares_of(of)
    if shares:
        lines.append("of its paths " + join_names([f"{name} has {share:.0%}" for name, share in shares.items()]))
    return Answer(f"{_when(of)}{'; '.join(lines)}.")


def _more(mixers: Effect, mlps: Effect) -> str:
    """Which costs more, where the difference over seeds is told."""
    seeds = sorted(mixers.by_seed.keys() & mlps.by_seed.keys())
    found = mean_interval([mixers.by_seed[seed] - mlps.by_seed[seed] for seed in seeds])
    if found.low is None or found.high is None:
        return "one seed does not tell whether mixers or MLPs matter more"
    if found.low > 0:
        return "its mixers matter more than its MLPs"
    return "its MLPs matter more than its mixers" if found.high < 0 else "mixers and MLPs are not told apart"


def breaks(runs: Seeds) -> Answer:
    """From which length of context on the same targets are predicted worse than at the best length."""
    of = {seed: results["context"].values for seed, results in runs.items() if "context" in results}
    if not of:
        known = [one for name in ("signals", "state") for one in inside(runs, name).values()]
        if known and all(one.untrained for one in known):
            return Answer("not applicable: untrained weights make no use of context.", False)
        return _not_measured("context")
    found = list(of.values())
    if found[0]["lacks"]:
        return Answer(f"not measured: {found[0]['lacks']}.", False)
    trained, longest = found[0]["trained"], min(values["lengths"][-1]["tokens"] for values in found)
    more = ""
    if found[0]["positions"] is not None:
        more = f" Beyond {found[0]['positions']:,} tokens: not applicable, it has learned positions for no more."
    elif found[0]["too_long"]:
        more = f" From {found[0]['too_long'][0]:,} tokens on: not measured, too few held-out documents are so long."
    if longest <= trained:
        return Answer(f"cannot be told: it was trained on {trained:,} tokens and is asked for no more.{more}", False)
    return Answer(_worse(found, trained, longest) + more)


def first_worse(values: Mapping[str, Any]) -> int | None:
    """The shortest length beyond its training length at which it is told to be worse than at its best."""
    if values["first_worse"] is None:
        return None
    for at in values["lengths"]:
        low = at["above_best"]["low"]
        beyond = at["tokens"] > values["trained"] and at["tokens"] >= values["first_worse"]
        if beyond and (low is None or low > 0):
            return int(at["tokens"])
    return None


def _worse(found: Sequence[Mapping[str, Any]], trained: int, longest: int) -> str:
    from_tokens = [first_worse(values) for values in found]
    known = sorted(tokens for tokens in from_tokens if tokens is not None)
    above = [float(at["above_best"]["mean"]) for values in found for at in values["lengths"] if at["tokens"] == longest]
    at_longest = f"with {longest:,} tokens it loses {told(above, '{:.3f}')} nats per token against its best length"
    if not known:
        times = f"{longest / trained:.3g} times the {trained:,} it was trained on"
        return f"is not told to get worse up to {longest:,} tokens, {times}; {at_longest}."
    where = f"{known[0]:,}" if known[0] == known[-1] else f"{known[0]:,} to {known[-1]:,}"
    seeds = "" if len(known) == len(found) else f" on {len(known)} of {len(found)} seeds"
    return f"gets worse from {where} tokens on{seeds} (trained on {trained:,}); {at_longest}."


def _when(of: Mapping[int, Inside]) -> str:
    return "untrained, it " if all(one.untrained for one in of.values()) else ""


def _not_measured(measurement: str) -> Answer:
    return Answer(f"not measured; `assay measure --only {measurement}` asks it.", False)
