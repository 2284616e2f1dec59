"""Which colour and shape an arm has, the same on the whole page; no two arms of one architecture have one colour."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import altair as alt

from assay.records import Arm, StudyRecord

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
"""Okabe and Ito 2008, with a violet for their yellow and black, which vanish on one of the two backgrounds."""
FURTHER = ("#7F5539", "#8A8B00", "#B0003A", "#007C89", "#708090", "#B5179E", "#4B50C8")
"""For the eighth arm and those after it: harder to tell apart, so lines end in shapes too."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")


class Look(NamedTuple):
    """How one arm is drawn."""

    colour: str
    shape: str


Looks = Mapping[str, Look]
"""Label -> look."""


def looks(study: StudyRecord) -> dict[str, Look]:
    """One colour a group, in the order of their names: sizes of one arm and points of its grid share it."""
    groups: dict[str, list[Arm]] = {}
    for arm in sorted(study.arms, key=lambda arm: (arm.group or arm.label, arm.label)):
        groups.setdefault(arm.group or arm.label, []).append(arm)
    used: dict[str, list[str]] = {colour: [] for colour in PALETTE + FURTHER}
    found = {}
    for index, arms in enumerate(groups.values()):
        architecture = arms[0].architecture
        colour = min(used, key=lambda colour: (architecture in used[colour], len(used[colour])))
        used[colour].append(architecture)
        for arm in arms:
            found[arm.label] = Look(colour, SHAPES[(index + index // len(PALETTE)) % len(SHAPES)])
    return found


def crowded(names: Sequence[str]) -> bool:
    """Whether there are more arms than colours that are easily told apart."""
    return len(names) > len(PALETTE)


def colours(of: Looks, names: Sequence[str]) -> alt.Scale:
    """The colours of `names`, as a scale."""
    return alt.Scale(domain=list(names), range=[of[name].colour for name in names])


def shapes(of: Looks, names: Sequence[str]) -> alt.Scale:
    """The shapes of `names`, so that colour is not the only difference."""
    return alt.Scale(domain=list(names), range=[of[name].shape for name in names])
