"""Seeds of single arms that stand apart from all others."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

FALSE_NAMES = 0.01
"""The share of studies with alike normal noise in which some seed is named by chance."""


class Apart(NamedTuple):
    """A score that stands apart: the indices of arm and seed, and how far it is above the others (nats)."""

    arm: int
    seed: int
    above: float


def stands_apart(scores: np.ndarray) -> Apart | None:
    """The score of scores [k, n] that is farthest from the sum of an arm's and a seed's effect, if it is too far.

    With r the residual of the additive model and SS the sum of all r^2, leaving one score out makes its own prediction
    wrong by r / h, h = (1 - 1/k) (1 - 1/n), and SS smaller by r^2 / h. Their ratio is Student's t with
    (k - 1)(n - 1) - 1 degrees of freedom (an externally studentised residual, Cook and Weisberg 1982, with
    Bonferroni's bound over all scores). None where there are too few scores, or none is so far.
    """
    k, n = scores.shape
    degrees = (k - 1) * (n - 1) - 1
    if k < 2 or n < 3 or degrees < 1:
        return None
    residuals = scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean()
    free = (1 - 1 / k) * (1 - 1 / n)
    left = np.maximum((residuals**2).sum() - residuals**2 / free, 0.0)
    # A rest of rounding errors alone is no noise that anything could be measured against.
    left = np.where(left > (1e-12 * np.abs(scores).max()) ** 2, left, np.inf)
    ratio = np.abs(residuals) / np.sqrt(free * left / degrees)
    arm, seed = np.unravel_index(int(ratio.argmax()), ratio.shape)
    if ratio[arm, seed] <= stdtrit(degrees, 1 - FALSE_NAMES / (2 * k * n)):
        return None
    return Apart(int(arm), int(seed), float(residuals[arm, seed] / free))
