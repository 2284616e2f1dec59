"""The answer of a study in a few words: who beats whom by how much, who is not told apart, who beats no floor."""

from collections.abc import Sequence

from assay.analysis import under_floors, unsound
from assay.analysis.ranking.verdicts import decimals
from assay.analysis.wording import join_names
from assay.records import Arm, Pair, StudyRecord
from assay.report import quantities
from assay.report.groups import SizeGroup, by_size

MANY_PAIRS = 6
"""Of more pairs only those of the best arm are told, and the others counted."""


def answer(study: StudyRecord) -> str:
    """How far to trust it is said by the headline under it."""
    sentences: list[str] = []
    for group in by_size(study):
        if any(arm.rank is not None for arm in group.arms):
            told = [*_group(group, study), *_not_ranked(group, study)]
            if group.heading:
                told[0] = f"At {group.heading}, {told[0]}"
            sentences += told
    if study.not_ranked_because is not None:
        sentences.append(f"No ranking: {study.not_ranked_because}.")
    return " ".join([*sentences, *_floors(study)])


def _group(group: SizeGroup, study: StudyRecord) -> list[str]:
    ranked = sorted((arm for arm in group.arms if arm.rank is not None), key=lambda arm: arm.rank or 0)
    why = _why_not(group, study)
    if len(ranked) == 1 and why:
        return [f"{ranked[0].label} is the only arm that can be ranked: {join_names(why)}.", _score(ranked, study)]
    pairs = [pair for pair in group.pairs if pair.n_seeds > 1]
    if not pairs:
        return [_score(ranked, study), *(["One seed: nothing is resolved."] if group.pairs else [])]
    return _verdicts(pairs, [arm.label for arm in ranked])


def _score(ranked: Sequence[Arm], study: StudyRecord) -> str:
    """ "gpt1: lowest test loss, 5.219 nats per token (perplexity 184.7)."; arms of one score together."""
    first = [arm for arm in ranked if arm.rank == 1]
    score = first[0].scores
    if score is None:
        raise ValueError("an arm without scores has a rank")
    bits = score.bits_per_byte
    per_byte = f", {quantities.nats(bits.mean)} bits per byte" if bits is not None else ""
    return (
        f"{join_names([arm.label for arm in first])}: {'lowest ' if len(ranked) > 1 else ''}{study.split} loss, "
        f"{quantities.nats(score.nats_per_token.mean)} nats per token (perplexity "
        f"{quantities.perplexity(score.perplexity.mean)}{per_byte})."
    )


def _verdicts(pairs: Sequence[Pair], labels: Sequence[str]) -> list[str]:
    """Resolved pairs by who is ahead, the best arm first; then pairs that are not told apart."""
    told = [pair for pair in pairs if labels[0] in (pair.a, pair.b)] if len(pairs) > MANY_PAIRS else list(pairs)
    place = {label: index for index, label in enumerate(labels)}
    beaten: dict[str, list[str]] = {}
    apart: list[tuple[str, ...]] = []
    for pair in sorted(told, key=lambda pair: sorted((place[pair.a], place[pair.b]))):
        ahead, behind = (pair.a, pair.b) if pair.difference < 0 else (pair.b, pair.a)
        if pair.resolved:
            beaten.setdefault(ahead, []).append(f"{behind} by {_size(pair)}")
        else:
            apart.append((ahead, behind))
    clauses = [f"{ahead} beats {join_names(of)} nats per token" for ahead, of in beaten.items()]
    if apart:
        members = list(dict.fromkeys(label for of in apart for label in of))
        all_of_them = len(apart) == len(members) * (len(members) - 1) // 2
        names = join_names(members) if all_of_them else "; ".join(join_names(of) for of in apart)
        clauses.append(f"{names} are not told apart")
    sentences = [f"{'; '.join(clauses)}."]
    if rest := [pair for pair in pairs if pair not in told]:
        resolved = sum(pair.resolved for pair in rest)
        sentences.append(f"Of the {len(rest)} other pairs {resolved} {'is' if resolved == 1 else 'are'} resolved.")
    if beaten and min(pair.n_seeds for pair in told) == 2:
        sentences.append("That rests on two seeds, one degree of freedom.")
    if any(pair.resolved and pair.nominal is not None for pair in told):
        sentences.append("Some of it is nominal: something was added after a look.")
    return sentences


def _size(pair: Pair) -> str:
    """ "0.24 ± 0.18": two decimals, or as many as show that the difference is larger than its half-width."""
    size, half = abs(pair.difference), ((pair.high or 0.0) - (pair.low or 0.0)) / 2
    digits = decimals(size, half, size - half, fewest=2)
    return f"{size:.{digits}f} ± {half:.{digits}f}"


def _not_ranked(group: SizeGroup, study: StudyRecord) -> list[str]:
    """Why arms beside several that are ranked are not."""
    several = sum(arm.rank is not None for arm in group.arms) > 1
    return [f"Not ranked: {join_names(why)}."] if several and (why := _why_not(group, study)) else []


def _why_not(group: SizeGroup, study: StudyRecord) -> list[str]:
    """ "ema-roll reads the future", of each arm that has no rank beside others that have one."""
    why, under = [], []
    least = under_floors.least(study.floors)
    for arm in group.arms:
        if arm.rank is not None or arm.selected is False:
            continue
        if arm.unsound is not None:
            why.append(f"{arm.label} {unsound.in_words(arm.label, study.audits)}")
        elif arm.diverged:
            why.append(f"{arm.label} diverged with {arm.diverged} of {len(arm.seeds)} seeds")
        elif least is not None and least[0] in under_floors.floors_of(arm, study.floors):
            under.append(arm.label)
    if under and least is not None:
        why.append(f"{join_names(under)} do{'es' if len(under) == 1 else ''} not beat the {least[0]} floor")
    return why


def _floors(study: StudyRecord) -> list[str]:
    """Where no arm beats the best n-gram."""
    arms = under_floors.shown(study.arms)
    strongest = under_floors.strongest(study.floors)
    if (
        "floor" in (study.not_ranked_because or "")
        or not arms
        or strongest is None
        or not all(strongest in under_floors.floors_of(arm, study.floors) for arm in arms)
    ):
        return []
    words = under_floors.in_words(strongest, study.floors[strongest])
    return [f"None beats the {words}." if len(arms) > 1 else f"{arms[0].label} does not beat the {words}."]
