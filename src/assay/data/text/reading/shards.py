"""Numbered parts of one text, as in train-00000-of-00002.parquet, of which some may not be there."""

import re
from collections.abc import Iterable

_SHARD = re.compile(r"(?P<before>.*?)(?P<number>[0-9]{1,6})(?P<of>[-_.]of[-_.](?P<all>[0-9]{1,6})\b.*)", re.DOTALL)


def missing_shards(names: Iterable[str]) -> list[str]:
    """The names that are not among `names`, of files that say by their names how many there are.

    Numbers begin with 0, or with 1 where the last number is that of all.
    """
    groups: dict[tuple[str, str, int], set[int]] = {}
    for name in names:
        if (match := _SHARD.fullmatch(name)) is not None:
            group = match["before"], match["of"], len(match["number"])
            groups.setdefault(group, set()).add(int(match["number"]))
    missing = []
    for (before, of, digits), there in groups.items():
        if (match := _SHARD.fullmatch(f"{before}0{of}")) is not None:
            number_of_all = int(match["all"])
            first = int(number_of_all in there)
            missing += [
                f"{before}{number:0{digits}}{of}"
                for number in range(first, first + number_of_all)
                if number not in there
            ]
    return missing
