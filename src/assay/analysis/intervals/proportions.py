"""Intervals of a share of right answers: Clopper and Pearson's, and the same over sequences with several answers each.

The formulas and their coverage by simulation are in docs/statistics.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, stdtrit

from assay.analysis.statistics import LEVEL

ENOUGH = 20
"""Sequences with an answer of the rarer kind from which on their variance is used; chosen by simulation."""


class Share(NamedTuple):
    """A share and its interval."""

    mean: float
    low: float
    high: float


def clopper_pearson(right: float, n: float, level: float = LEVEL) -> Share:
    """The exact interval of a binomial share (Clopper and Pearson 1934): `right` of `n` independent answers.

    Neither needs to be a whole number, so that an effective number of answers may stand for n.
    """
    if not (n > 0 and 0 <= right <= n):
        raise ValueError(f"{right} right answers of {n}")
    tail = (1 - level) / 2
    low = float(betaincinv(right, n - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return Share(right / n, low, high)


def share_interval(right: Sequence[int], answers: Sequence[int], level: float = LEVEL) -> Share:
    """The share of right answers over sequences, of which each gives `right` of its `answers`.

    Sequences are drawn independently, answers of one are not: the interval is that of Clopper and Pearson with the
    number of answers that would have the variance measured between sequences, corrected for its uncertainty (Korn and
    Graubard 1998). Where fewer than `ENOUGH` sequences hold an answer of the rarer kind, that variance is not known
    well enough, and no sequence counts as more than one answer.
    """
    r, m = np.asarray(right, dtype=np.float64), np.asarray(answers, dtype=np.float64)
    total, n = float(m.sum()), len(m)
    if n == 0 or (m < 1).any() or (r > m).any() or (r < 0).any():
        raise ValueError("a share needs sequences with answers")
    share = float(r.sum()) / total
    if (m == 1).all():
        return clopper_pearson(float(r.sum()), total, level)
    if n == 1 or share in (0.0, 1.0):
        return clopper_pearson(share * n, n, level)
    rarer = int(((r < m) if share > 0.5 else (r > 0)).sum())
    errors = (r - share * m) / total
    variance = float(n / (n - 1) * (errors**2).sum())
    tail = (1 + level) / 2
    narrower = float(stdtrit(total - 1, tail) / stdtrit(n - 1, tail)) ** 2
    effective = total if variance == 0 else share * (1 - share) / variance * narrower
    effective = min(effective, total if rarer >= ENOUGH else n)
    return clopper_pearson(share * effective, effective, level)
