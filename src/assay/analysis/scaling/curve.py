"""The baseline's loss at any cost, read between its rungs.

Between two rungs the loss is taken to fall as cost^-b does: straight in cost^-b through both, so that the curve bends
as a power law with a floor does. How much it bends, b, is estimated from all rungs (the curvature over the slope of a
least-squares parabola in log cost) and drawn towards what is usual, USUAL ± SPREAD, by as much as its own error asks
for. That b is not known enters the error of what is read.

Shapes: R ladders, J rungs of the baseline, K costs at which it is read.
"""

from typing import NamedTuple

import numpy as np

FURTHEST = float(np.log(10.0))
"""How far beyond the baseline's lowest and highest rung a cost is read off its curve: ten times."""
USUAL, SPREAD = 0.15, 0.12
"""Exponents of language models in cost: 0.05 to 0.35 (Kaplan et al. 2020, Hoffmann et al. 2022)."""


class Curve(NamedTuple):
    """The curve through the means of R baselines."""

    log_costs: np.ndarray
    """[J], ascending."""
    losses: np.ndarray
    """[R, J]: means over seeds."""
    bend: np.ndarray
    """[R]: b."""
    bend_by_loss: np.ndarray
    """[R, J]: how b moves with each loss."""
    bend_variance: np.ndarray
    """[R]: of b, beyond what the losses' own errors give it."""


def through(log_costs: np.ndarray, losses: np.ndarray, variances: np.ndarray) -> Curve:
    """The curve through losses [R, J], of which each has its variance [R, J]; J is two or more."""
    if len(log_costs) < 3:
        nothing = np.zeros(len(losses))
        return Curve(log_costs, losses, nothing + USUAL, np.zeros_like(losses), nothing + SPREAD**2)
    centred = log_costs - log_costs.mean()
    # Rows: the level, the slope and the curvature of the parabola as sums over the losses.
    _, slope, curvature = np.linalg.pinv(np.stack([np.ones_like(centred), centred, centred**2 / 2], 1))
    fall = losses @ slope
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = -(losses @ curvature) / fall
        by_loss = -(curvature + bend[:, None] * slope) / fall[:, None]
        variance = (by_loss**2 * variances).sum(1)
        share = np.where(fall < 0, SPREAD**2 / (SPREAD**2 + variance), 0.0)
    share = np.nan_to_num(share)
    bend = np.where(share > 0, share * np.nan_to_num(bend), 0.0) + (1 - share) * USUAL
    by_loss = np.where(share[:, None] > 0, share[:, None] * np.nan_to_num(by_loss), 0.0)
    return Curve(log_costs, losses, bend, by_loss, (1 - share) ** 2 * SPREAD**2)


class Read(NamedTuple):
    """What is read at K costs."""

    loss: np.ndarray
    """[R, K]."""
    weights: np.ndarray
    """[R, K, J]: how it moves with the baseline's losses."""
    by_bend: np.ndarray
    """[R, K]: how it moves with b, whose own variance is `Curve.bend_variance`."""


def read(curve: Curve, at: np.ndarray) -> Read:
    """The curve at log costs [R, K]."""
    last = len(curve.log_costs) - 1
    upper = np.clip(np.searchsorted(curve.log_costs, at, side="left"), 1, last)
    low, high = curve.log_costs[upper - 1], curve.log_costs[upper]
    bend = curve.bend[:, None]
    share = _share(bend, at - low, high - low)
    by_bend = (_share(bend + 1e-4, at - low, high - low) - _share(bend - 1e-4, at - low, high - low)) / 2e-4
    of_low, of_high = (np.take_along_axis(curve.losses, index, 1) for index in (upper - 1, upper))
    by_bend = by_bend * (of_high - of_low)
    rungs = np.arange(last + 1)
    weights = np.where(rungs == upper[..., None], share[..., None], 0.0)
    weights = np.where(rungs == upper[..., None] - 1, 1 - share[..., None], weights)
    return Read(
        of_low + share * (of_high - of_low),
        weights + by_bend[..., None] * curve.bend_by_loss[:, None],
        by_bend,
    )


def slope(curve: Curve, at: np.ndarray) -> np.ndarray:
    """[R, K]: the slope of the curve at log costs [R, K], in nats per natural logarithm of cost."""
    step = 1e-5
    of: np.ndarray = (read(curve, at + step).loss - read(curve, at - step).loss) / (2 * step)
    return of


def _share(bend: np.ndarray, along: np.ndarray, width: np.ndarray) -> np.ndarray:
    """How much of the way from one rung to the next the loss has gone, `along` of `width` in log cost."""
    bend = np.where(np.abs(bend) < 1e-6, 1e-6, bend)
    of: np.ndarray = np.expm1(-bend * along) / np.expm1(-bend * width)
    return of
