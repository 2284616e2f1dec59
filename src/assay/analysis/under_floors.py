"""Which arms a model without a network beats: they learnt less than counting does."""

from collections.abc import Mapping, Sequence

from assay.analysis.wording import join_names
from assay.records import Arm, Floor

LEAST = ("unigram", "chance")
"""The floors that an arm must beat to be ranked: that of a text, and that of a task."""


def least(floors: Mapping[str, Floor]) -> tuple[str, float] | None:
    """The name and the nats per token of the floor that an arm must beat to be ranked; None where there is none."""
    return next(((name, floors[name].nats_per_token) for name in LEAST if name in floors), None)


def said(arms: Sequence[Arm], floors: Mapping[str, Floor]) -> list[str]:
    """A sentence for each set of floors that arms do not beat, of those that are `shown`."""
    under: dict[tuple[str, ...], list[str]] = {}
    for arm in shown(arms):
        if better := floors_of(arm, floors):
            under.setdefault(better, []).append(arm.label)
    return [_sentence(labels, which) for which, labels in under.items()]


def shown(arms: Sequence[Arm]) -> list[Arm]:
    """The arms whose scores say something of them."""
    return [arm for arm in arms if arm.unsound is None and arm.selected is not False and arm.scores is not None]


def floors_of(arm: Arm, floors: Mapping[str, Floor]) -> tuple[str, ...]:
    """The floors that the mean of `arm` does not beat."""
    if arm.scores is None:
        return ()
    nats = arm.scores.nats_per_token.mean
    return tuple(name for name, floor in floors.items() if floor.nats_per_token <= nats)


def _sentence(labels: Sequence[str], which: Sequence[str]) -> str:
    several = len(labels) > 1
    text = f"{join_names(labels)} do{'' if several else 'es'} not beat the {join_names(which)} floor"
    text += "s" if len(which) > 1 else ""
    if set(which) & set(LEAST):
        text += f", so {'they are' if several else 'it is'} not ranked"
    return f"{text}."
