"""The noise of runs of a ladder, pooled over arms and rungs, and the error of what is computed from their means.

A seed may move all runs alike (it cancels in everything a gate looks at), and the two arms of one rung more than that,
as they read the same batches. The rest is each run's own. So two variances are enough:

    paired  of the difference of the two arms of a rung over seeds              mean over rungs, G (S - 1) degrees
    single  of a run against the mean of its arm and seed over the rungs        both arms, (G + J - 2) (S - 1) degrees

Shapes: R ladders, J rungs of the baseline, the first G of them also of the candidate, S seeds.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Noise(NamedTuple):
    """Variances of one run [R], and their degrees of freedom."""

    paired: np.ndarray
    single: np.ndarray
    paired_degrees: int
    single_degrees: int
    seeds: int


class Error(NamedTuple):
    """Of a sum of means: its variance, and the degrees of freedom with which it is known."""

    variance: np.ndarray
    degrees: np.ndarray


def pooled(baseline: np.ndarray, candidate: np.ndarray) -> Noise:
    """The noise of scores [R, J, S] and [R, G, S] of the same seeds; J is two or more, and so is S."""
    rungs, seeds = candidate.shape[1:]
    difference = candidate - baseline[:, :rungs]
    paired = difference.var(-1, ddof=1).mean(1)
    squares, degrees = np.zeros(len(baseline)), 0
    for scores in (baseline, candidate):
        own = scores - scores.mean(-1, keepdims=True)
        own = own - own.mean(1, keepdims=True)
        squares = squares + (own**2).sum((1, 2))
        degrees += (scores.shape[1] - 1) * (seeds - 1)
    return Noise(paired, squares / degrees, rungs * (seeds - 1), degrees, seeds)


def error(noise: Noise, of_baseline: np.ndarray, of_candidate: np.ndarray, fixed: np.ndarray | float = 0.0) -> Error:
    """The error of sum(of_baseline x baseline's means) + sum(of_candidate x candidate's means).

    The coefficients are [..., J] and [..., G] with a sum of zero over both; `noise` is of shape [...]. `fixed` is a
    variance that seeds do not reduce; as it is computed from the same noise, it adds no degrees of freedom. These are
    Satterthwaite's (1946).
    """
    alike = of_baseline[..., : of_candidate.shape[-1]]
    # So much of the sum is a difference of the two arms of one rung ...
    pairs = np.maximum(-(alike * of_candidate).sum(-1), 0.0)
    # ... and so much is a difference between rungs.
    singles = np.maximum((of_baseline**2).sum(-1) + (of_candidate**2).sum(-1) - 2 * pairs, 0.0)
    of_pairs, of_singles = pairs * noise.paired / noise.seeds, singles * noise.single / noise.seeds
    variance = of_pairs + of_singles + fixed
    spread = of_pairs**2 / noise.paired_degrees + of_singles**2 / noise.single_degrees
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(spread > 0, (of_pairs + of_singles) ** 2 / spread, noise.paired_degrees)
    return Error(variance, np.minimum(degrees, 1e6))


def quantile(degrees: np.ndarray, level: float) -> np.ndarray:
    """The half-width of a two-sided interval in standard errors."""
    of: np.ndarray = stdtrit(degrees, (1 + level) / 2)
    return of
