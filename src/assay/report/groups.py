"""A study size by size, as table, page and figures show it."""

from collections.abc import Sequence
from typing import NamedTuple

from assay.analysis.wording import short, size_name
from assay.records import Arm, Pair, StudyRecord


class SizeGroup(NamedTuple):
    """The arms of one size and their pairs."""

    heading: str
    """Empty where the study has one size."""
    name: str
    """What stands in file names; empty where the study has one size."""
    arms: Sequence[Arm]
    pairs: Sequence[Pair]


def by_size(study: StudyRecord) -> list[SizeGroup]:
    """In the order of the record: small to large."""
    sizes = list(dict.fromkeys(arm.size for arm in study.arms))
    groups = []
    for size in sizes:
        arms = [arm for arm in study.arms if arm.size == size]
        labels = {arm.label for arm in arms}
        heading = size_name(size, study.match) if len(sizes) > 1 else ""
        name = ("by-hand" if size is None else short(size)) if heading else ""
        groups.append(SizeGroup(heading, name, arms, [pair for pair in study.pairs if pair.a in labels]))
    return groups


def asked_for(arms: Sequence[Arm]) -> list[str]:
    """The arms by the names they were asked for: those of their groups, once each."""
    return list(dict.fromkeys(arm.group or arm.label for arm in arms))


def drawn(arms: Sequence[Arm]) -> list[str]:
    """The labels that lines are drawn for, best first: not the points of a grid that were not chosen."""
    return [arm.label for arm in arms if arm.selected is not False]
