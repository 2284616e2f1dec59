"""Rows for figures: samples of single runs put together over seeds, curves averaged over stretches."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from assay.analysis.statistics import LEVEL, mean_interval
from assay.records import CurvePoint, Interval, RunRecord

Row = dict[str, str | float]
Key = tuple[str | float, ...]


def over_seeds(fields: Sequence[str], samples: Iterable[tuple[Key, float]], unit: str) -> list[Row]:
    """One row for each key: the key under `fields`, then mean, lowest and highest value, number of seeds, unit."""
    groups: dict[Key, list[float]] = {}
    for key, value in samples:
        groups.setdefault(key, []).append(value)
    return [
        dict(zip(fields, key, strict=True))
        | {"mean": statistics.fmean(of), "low": min(of), "high": max(of), "seeds": len(of), "unit": unit}
        for key, of in groups.items()
    ]


def intervals_over_seeds(
    fields: Sequence[str], samples: Iterable[tuple[Key, Interval]], unit: str, level: float = LEVEL
) -> list[Row]:
    """As `over_seeds`, with `low` and `high` the ends of Student's interval over seeds.

    With one seed they are those of its own interval, and the mean where it has none.
    """
    groups: dict[Key, list[Interval]] = {}
    for key, value in samples:
        groups.setdefault(key, []).append(value)
    rows = []
    for key, of in groups.items():
        found = of[0] if len(of) == 1 else mean_interval([value.mean for value in of], level)
        ends = {name: found.mean if end is None else end for name, end in (("low", found.low), ("high", found.high))}
        rows.append(dict(zip(fields, key, strict=True)) | {"mean": found.mean, **ends, "seeds": len(of), "unit": unit})
    return rows


def stretches(curve: Sequence[CurvePoint], edges: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Mean tokens and mean nats of the points between every two `edges`; points before the first token are left out."""
    groups: dict[int, list[CurvePoint]] = {}
    for point in curve:
        if point.tokens > 0:
            groups.setdefault(int(np.searchsorted(edges, point.tokens)), []).append(point)
    for group in groups.values():
        yield (
            statistics.fmean(point.tokens for point in group),
            statistics.fmean(point.nats_per_token for point in group),
        )


def seeds_of(runs: Sequence[RunRecord]) -> str:
    """How many seeds the arms have, in words."""
    return count_of_seeds(list(Counter(run.label for run in runs).values()))


def count_of_seeds(counts: Sequence[int]) -> str:
    """over 3 seeds; over 2 to 3 seeds; one seed."""
    low, high = min(counts), max(counts)
    if high == 1:
        return "one seed"
    return f"over {high} seeds" if low == high else f"over {low} to {high} seeds"
