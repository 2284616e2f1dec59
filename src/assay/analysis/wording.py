"""Small pieces of sentences: lists of names, sizes, and who has which value."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from assay.records import Match

UNITS: dict[Match, str] = {
    "blocks+head": "parameters of blocks and head",
    "total": "parameters",
    "non-embedding": "non-embedding parameters",
    "flops": "FLOPs per token",
    "state": "bytes of state",
}


def join_names(names: Sequence[str], last: str = "and") -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def counted(number: int, noun: str) -> str:
    """1 pair, 2 pairs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_name(size: int | None, match: Match | None) -> str:
    """1M parameters; 0.5M non-embedding parameters."""
    if size is None:
        return "sizes given by hand"
    return f"{short(size)} {UNITS[match or 'total']}"


def short(size: int) -> str:
    """500, 20k, 0.5M, 1.5B: as a size is typed."""
    for unit, letter in ((10**9, "B"), (10**5, "M"), (10**3, "k")):
        if size >= unit:
            return f"{size / (10**6 if letter == 'M' else unit):.12g}{letter}"
    return str(size)


def number(value: Any) -> str:
    """A setting as it is typed: 0.0001 rather than 1e-04, none for None, lists in short."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.12g}"


def who_has_which(values: Mapping[str, Hashable], groups: Mapping[str, str]) -> str:
    """ "0 for slow, 0.1 for the others": every value of `values` (label -> value) with those that have it.

    Labels of one of the `groups` (label -> group) that all have one value go by its name.
    """
    members: dict[str, list[str]] = {}
    for label in values:
        members.setdefault(groups[label], []).append(label)
    named: dict[str, Hashable] = {}
    for group, labels in members.items():
        if len({values[label] for label in labels}) == 1:
            named[group] = values[labels[0]]
        else:
            named |= {label: values[label] for label in labels}
    counts = Counter(named.values()).most_common()
    most = counts[0][0] if counts[0][1] > max(1, len(named) / 2) else None
    pieces = [
        f"{number(value)} for {join_names([name for name, of in named.items() if of == value])}"
        for value in dict.fromkeys(named.values())
        if most is None or value != most
    ]
    return ", ".join(pieces + ([] if most is None else [f"{number(most)} for the others"]))
