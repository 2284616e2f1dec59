"""The noise of runs of a ladder, pooled over arms and rungs, and the error of what is computed from their means.

A seed may move all runs alike (it cancels in everything a gate looks at), and the two arms of one rung more than that,
as they read the same batches. The rest is each run's own. So two variances of each rung are enough:

    paired  of the difference of the two arms of a rung over seeds
    single  of a run of a rung against the mean of its arm and seed over the rungs, both arms together

Each is `own_share` its rung's and otherwise the mean over the rungs: few seeds of one rung alone are too few degrees of
freedom, and the mean alone is wrong where noise grows or shrinks with size. `paired` is never below what it is where
the arms share most of their noise: two or three seeds of two arms fall alike by chance, and a difference would be told
that is none.

Shapes: R ladders, J rungs of the baseline, the first G of them also of the candidate, S seeds.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from assay.analysis.scaling.ladder import Ladder

PRIOR_DEGREES = 5.0
"""The mean over the rungs counts as much as so many more seeds of a rung's own; by simulation."""
LEAST_APART = 0.4
"""The arms share at most 1 - this of a run's variance, however alike few seeds may look."""


class Noise(NamedTuple):
    """Variances of one run."""

    paired: np.ndarray
    """[..., G]."""
    single: np.ndarray
    """[..., J]."""
    seeds: int


def sd_of_run(ladder: Ladder) -> float:
    """The standard deviation over seeds of one run of a ladder, nats."""
    arrays = ladder.arrays()
    return float(np.sqrt(pooled(arrays.baseline, arrays.candidate).single.mean()))


class Error(NamedTuple):
    """Of a sum of means: its variance, and the degrees of freedom with which it is known."""

    variance: np.ndarray
    degrees: np.ndarray


def pooled(baseline: np.ndarray, candidate: np.ndarray) -> Noise:
    """The noise of scores [R, J, S] and [R, G, S] of the same seeds; J is two or more, and so is S."""
    rungs, seeds = candidate.shape[1:]
    paired = (candidate - baseline[:, :rungs]).var(-1, ddof=1)
    squares, degrees = np.zeros(baseline.shape[:2]), np.zeros(baseline.shape[1])
    for scores in (baseline, candidate):
        count = scores.shape[1]
        own = scores - scores.mean(-1, keepdims=True)
        own = own - own.mean(1, keepdims=True)
        squares[:, :count] += (own**2).sum(-1)
        degrees[:count] += (1 - 1 / count) * (seeds - 1)
    overall = squares.sum(1, keepdims=True) / degrees.sum()
    share = own_share(seeds)
    single = share * squares / np.where(degrees > 0, degrees, 1.0) + (1 - share) * overall
    paired = share * paired + (1 - share) * paired.mean(1, keepdims=True)
    return Noise(np.maximum(paired, LEAST_APART * 2 * single[:, :rungs]), single, seeds)


def error(noise: Noise, of_baseline: np.ndarray, of_candidate: np.ndarray, fixed: np.ndarray | float = 0.0) -> Error:
    """The error of sum(of_baseline x baseline's means) + sum(of_candidate x candidate's means).

    The coefficients are [..., J] and [..., G] with a sum of zero over both. `fixed` is a variance that seeds do not
    reduce; as it is computed from the same noise, it adds no degrees of freedom. These are Satterthwaite's (1946).
    """
    rungs, all_rungs = of_candidate.shape[-1], of_baseline.shape[-1]
    # So much of the sum is a difference of the two arms of one rung ...
    pairs = np.maximum(-of_baseline[..., :rungs] * of_candidate, 0.0)
    # ... and so much is a difference between rungs.
    singles = of_baseline**2
    singles[..., :rungs] += of_candidate**2 - 2 * pairs
    singles = np.maximum(singles, 0.0)
    of_pairs, of_singles = pairs * noise.paired, singles * noise.single
    total = of_pairs.sum(-1) + of_singles.sum(-1)
    # Each rung's own variance enters with its own part, and with its part of the mean.
    own_degrees = np.where(np.arange(all_rungs) < rungs, 2.0, 1.0) * (noise.seeds - 1)
    own_degrees *= 1 - 2 / (rungs + all_rungs)
    own_pairs, own_singles = (_own(of, noise.seeds) for of in (of_pairs, of_singles))
    spread = (own_pairs**2).sum(-1) / (noise.seeds - 1) + (own_singles**2 / own_degrees).sum(-1)
    degrees = np.where(spread > 0, total**2 / np.where(spread > 0, spread, 1.0), rungs * (noise.seeds - 1))
    return Error(total / noise.seeds + fixed, degrees)


def own_share(seeds: int) -> float:
    """How much a rung's own variance counts beside the mean over the rungs: more where more seeds tell it."""
    return (seeds - 1) / (seeds - 1 + PRIOR_DEGREES)


def _own(parts: np.ndarray, seeds: int) -> np.ndarray:
    """[..., rungs]: how much of the error rests on each rung's own variance."""
    share = own_share(seeds)
    of: np.ndarray = share * parts + (1 - share) * parts.mean(-1, keepdims=True)
    return of


def quantile(degrees: np.ndarray, level: float) -> np.ndarray:
    """The half-width of a two-sided interval in standard errors."""
    of: np.ndarray = stdtrit(degrees, (1 + level) / 2)
    return of
