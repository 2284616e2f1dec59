"""The interval of a number that is no mean, from its values with one of n units left out, corrected for skewness."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from assay.analysis.statistics import LEVEL


def jackknife_interval(value: float, without: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Both ends for `value`, of n units drawn independently; `without` [n] is the same with each one left out.

    The pseudo-values n value - (n - 1) without are taken for n draws of a mean (Tukey 1958): Student's t with n - 1
    degrees of freedom. With few draws of a skewed distribution that misses on one side too often; Hall's (1992)
    transformation t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, with a the skewness of the pseudo-values over the root of n,
    puts that right to the next order, and as it rises everywhere it has an inverse. ValueError with fewer than two.
    """
    n = len(without)
    if n < 2:
        raise ValueError(f"an interval needs at least two units, not {n}")
    apart = (n - 1) * (np.mean(without) - np.asarray(without, np.float64))
    error = math.sqrt(float(np.square(apart).sum()) / (n - 1) / n)
    if error == 0:
        return value, value
    skewness = float(np.mean(apart**3)) / float(np.mean(apart**2)) ** 1.5
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    low, high = (value - error * _before(of, skewness / math.sqrt(n)) for of in (quantile, -quantile))
    return low, high


def _before(transformed: float, a: float) -> float:
    """The t that Hall's transformation takes to `transformed`."""
    if abs(a) < 1e-6:  # the formula below would divide by zero; the difference is of the order of a
        return transformed
    return 3 / a * float(np.cbrt(1 + a * (transformed - a / 6)) - 1)
