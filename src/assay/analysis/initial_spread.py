"""Arms that begin far from the others, by the spread of their untrained logits and residual stream."""

import statistics
from collections.abc import Mapping, Sequence

from assay.analysis.columns import mixed
from assay.analysis.ranking.contests import Contest
from assay.analysis.wording import join_names
from assay.records import Results

FAR = 3.0
"""So many times the median of the other arms, or so many times less, is far.

Matrices of one scale (0.02, or 1 / sqrt(width)) differ by less than that at the widths of a study of small models, and
draws that are no choice of scale by orders of magnitude: 0.02 is 350 times +-1e-4.
"""
MEASUREMENT = "signals"
SPREADS = {"initial_logits": "logits", "initial_stream": "the residual stream"}
"""Columns of the measurement, and what they are the standard deviation of."""
START = "Before training"
"""How the sentences begin."""

Arms = Mapping[str, Sequence[Results]]
"""Label -> the results of its runs."""


def said(contests: Sequence[Contest]) -> list[str]:
    """A sentence for each size at which an arm is far from the others; the points of a grid begin alike."""
    lines = []
    for contest in contests:
        arms: dict[str, Sequence[Results]] = {}
        for entrant in contest.entrants:
            arms.setdefault(entrant.point.group, entrant.results)
        lines += said_of(arms, contest.name)
    return lines


def said_of(arms: Arms, size: str = "") -> list[str]:
    """The sentence about `arms`, of which `size` says the size where there are several; none where nobody is far."""
    if MEASUREMENT in mixed(results for of in arms.values() for results in of):
        return []
    found = []
    for key, what in SPREADS.items():
        stds = {label: std for label, of in arms.items() if (std := _mean(of, key)) is not None}
        far = _far(stds)
        found += [f"{what} of {label} ({std:.3g} against {others:.3g})" for label, std, others in far]
    if not found:
        return []
    at = f", at {size}" if size else ""
    return [
        f"{START}{at}, standard deviations are over {FAR:g} times from the median of the other arms': "
        f"{join_names(found)}. Differences may be those of the draws."
    ]


def _far(stds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(label, its value, the median of the others') of those that are far; of two arms the first stands for both."""
    found = []
    for label, std in stds.items():
        others = [other for name, other in stds.items() if name != label]
        if others and not statistics.median(others) / FAR <= std <= statistics.median(others) * FAR:
            found.append((label, std, statistics.median(others)))
    return found[:1] if len(stds) == 2 else found


def _mean(of: Sequence[Results], key: str) -> float | None:
    """The mean over the seeds; None where a run does not say."""
    values = [
        column.value
        for results in of
        if MEASUREMENT in results
        for column in results[MEASUREMENT].columns
        if column.key == key and column.value is not None
    ]
    return statistics.fmean(values) if values and len(values) == len(of) else None
