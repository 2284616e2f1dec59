"""The interval of a ratio of two means of paired values, by Fieller's theorem."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from assay.analysis.intervals.proportions import Share
from assay.analysis.statistics import LEVEL


def ratio_interval(above: Sequence[float], below: Sequence[float], level: float = LEVEL) -> Share | None:
    """mean(above) / mean(below) of n pairs that are drawn together, with its interval (Fieller 1954).

    The interval holds the ratios r for which mean(above - r below) is not told from zero by Student's t with n - 1
    degrees of freedom. None where it has no ends, as where mean(below) is not told from zero, or n is below two.
    """
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    n = len(a)
    if n != len(b):
        raise ValueError(f"{n} numerators and {len(b)} denominators")
    if n < 2 or b.mean() == 0:
        return None
    (vaa, vab), (_, vbb) = np.cov(a, b) / n
    t2 = float(stdtrit(n - 1, (1 + level) / 2)) ** 2
    # (a - r b)^2 <= t^2 (vaa - 2 r vab + r^2 vbb) is a quadratic in r, p r^2 - 2 q r + s <= 0.
    p, q, s = b.mean() ** 2 - t2 * vbb, a.mean() * b.mean() - t2 * vab, a.mean() ** 2 - t2 * vaa
    if p <= 0:
        return None
    half = math.sqrt(max(0.0, q * q - p * s))
    return Share(float(a.mean() / b.mean()), float((q - half) / p), float((q + half) / p))
