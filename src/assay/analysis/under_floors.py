"""Which arms a model without a network beats: they learnt less than counting does."""

from collections.abc import Mapping, Sequence

from assay.analysis.wording import join_names
from assay.records import Arm, Floor

LEAST = ("unigram", "chance")
"""The floors that an arm must beat to be ranked: that of a text, and that of a task."""
STRONGEST = ("ngram", "trigram")
"""The floors that say whether a network has learnt more than counting gives; the second in older records."""


def in_short(name: str, floor: Floor) -> str:
    """unigram; 5-gram."""
    return name if floor.ngram is None else f"{floor.ngram.order}-gram"


def in_words(name: str, floor: Floor) -> str:
    """unigram; best n-gram (order 5)."""
    return name if floor.ngram is None else f"best n-gram (order {floor.ngram.order})"


def scored_on(floors: Mapping[str, Floor]) -> str:
    """What the arms are scored on, in a word: texts, or of a task sequences."""
    return "sequences" if "chance" in floors else "texts"


def least(floors: Mapping[str, Floor]) -> tuple[str, float] | None:
    """The name and the nats per token of the floor that an arm must beat to be ranked; None where there is none."""
    return next(((name, floors[name].nats_per_token) for name in LEAST if name in floors), None)


def said(arms: Sequence[Arm], floors: Mapping[str, Floor]) -> list[str]:
    """A sentence for each set of floors that arms do not beat, of those that are `shown`."""
    under: dict[tuple[str, ...], list[str]] = {}
    for arm in shown(arms):
        if better := floors_of(arm, floors):
            under.setdefault(better, []).append(arm.label)
    return [_sentence(labels, which, floors) for which, labels in under.items()]


def shown(arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose scores say something of them."""
    return [arm for arm in arms if arm.unsound is None and arm.selected is not False and arm.scores is not None]


def floors_of(arm: Arm, floors: Mapping[str, Floor]) -> tuple[str, ...]:
    """The floors that the mean of `arm` does not beat."""
    if arm.scores is None:
        return ()
    nats = arm.scores.nats_per_token.mean
    return tuple(name for name, floor in floors.items() if floor.nats_per_token <= nats)


def strongest(floors: Mapping[str, Floor]) -> str | None:
    """The name of the best n-gram's floor; None where there is none."""
    return next((name for name in STRONGEST if name in floors), None)


def _sentence(labels: Sequence[str], which: Sequence[str], floors: Mapping[str, Floor]) -> str:
    several = len(labels) > 1
    words = join_names([in_words(name, floors[name]) for name in which])
    text = f"{join_names(labels)} do{'' if several else 'es'} not beat the {words} floor"
    text += "s" if len(which) > 1 else ""
    if set(which) & set(LEAST):
        text += f", so {'they are' if several else 'it is'} not ranked"
    return f"{text}."
