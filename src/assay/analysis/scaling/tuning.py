"""The learning rate of an arm from one run per rate, and what it leaves uncertain in the arm's loss.

    choose(rates, losses, noise_sd) -> Chosen
    Chosen: rate, low, high, excess_nats, variance (for `ladder.Trained.tuning_variance`), at_an_edge, window, text()

The rate is the lowest point of the parabola in log rate through the best run and its two neighbours. Taking the best run of
the grid instead leaves an arm half a step from its optimum by chance, which no number of judged seeds shows.

With noise of variance s^2 in each run, D the parabola's curvature times the squared step h^2 and f its lowest point's distance
from the best run in steps, the lowest point has the variance h^2 s^2 (2 + 24 f^2) / (4 D^2), at most (h / 2)^2. The
loss at the chosen rate is then above the lowest by half the curvature times the squared distance: a multiple of chi-squared
with one degree of freedom, of mean m (`excess_nats`) and mean square 3 m^2 (`variance`).

Shapes: R arms, m rates of one grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

NEARLY = 0.01
"""A rate is in the window where its loss is at most so much above the best, relatively."""
RANGE = 1.96
"""Standard errors to each side of the chosen rate."""


@dataclass(frozen=True)
class Chosen:
    """The learning rate of an arm at one size."""

    rate: float
    low: float
    high: float
    """The ends of the 95% range of the best rate, inside the neighbours of the best run."""
    excess_nats: float
    """What the chosen rate loses against the best one, on average."""
    variance: float
    """The mean square of that loss, nats squared."""
    at_an_edge: Literal["lowest", "highest"] | None
    """The best run is at this end of the grid: extend the grid there, for all arms, before judging."""
    window: tuple[float, float]
    """The lowest and the highest rate around the best run with a loss within 1% of its."""

    def text(self) -> str:
        """ "0.0031 (0.0024 to 0.004), within 1% from 0.001 to 0.01"."""
        edge = f", at the {self.at_an_edge} rate of its grid" if self.at_an_edge else ""
        window = f"within 1% from {self.window[0]:.3g} to {self.window[1]:.3g}"
        return f"{self.rate:.3g} ({self.low:.3g} to {self.high:.3g}), {window}{edge}"


class Lowest(NamedTuple):
    """Of R arms; each [R]."""

    log_rate: np.ndarray
    error: np.ndarray
    """Standard error of it."""
    excess: np.ndarray
    best: np.ndarray
    """The index of the best run."""


def choose(rates: Sequence[float], losses: Sequence[float | None], noise_sd: float) -> Chosen:
    """The learning rate of an arm; None or a loss that is not finite is a run that diverged.

    `noise_sd` is the standard deviation of one run over seeds in nats. Raises ValueError where rates do not ascend,
    are fewer than three, or no run finished.
    """
    grid = np.asarray(rates, dtype=float)
    if len(grid) < 3 or len(grid) != len(losses) or grid[0] <= 0 or (np.diff(grid) <= 0).any():
        raise ValueError("a grid needs three or more ascending rates above zero, with one loss each")
    found = np.array([np.inf if loss is None or not np.isfinite(loss) else loss for loss in losses], dtype=float)
    if not np.isfinite(found).any():
        raise ValueError("no run of the grid finished")
    of = lowest(np.log(grid), found[None], np.array([noise_sd]))
    best, log_rate, error = int(of.best[0]), float(of.log_rate[0]), float(of.error[0])
    nearest = np.log(grid[max(best - 1, 0)]), np.log(grid[min(best + 1, len(grid) - 1)])
    ends = (np.clip(log_rate + side * RANGE * error, *nearest) for side in (-1, 1))
    low, high = (float(np.exp(end)) for end in ends)
    edge: Literal["lowest", "highest"] | None = None
    if best in (0, len(grid) - 1):
        edge = "lowest" if best == 0 else "highest"
    excess = float(of.excess[0])
    return Chosen(float(np.exp(log_rate)), low, high, excess, 3 * excess**2, edge, _window(grid, found, best))


def lowest(log_rates: np.ndarray, losses: np.ndarray, noise_sd: np.ndarray) -> Lowest:
    """Where the loss is lowest, of losses [R, m] with the noise [R]; a loss of inf is a run that diverged.

    At an end of the grid, and beside a run that diverged, the missing neighbour is taken to be the other's mirror image:
    the best run's rate is kept. Where neither is there, nothing is known of the curvature, and the excess is the noise.
    """
    last = len(log_rates) - 1
    best = losses.argmin(1)
    rows = np.arange(len(losses))
    below, above = np.maximum(best - 1, 0), np.minimum(best + 1, last)
    left = np.where(best > 0, losses[rows, below], np.inf) - losses[rows, best]
    right = np.where(best < last, losses[rows, above], np.inf) - losses[rows, best]
    to_left, to_right = log_rates[best] - log_rates[below], log_rates[above] - log_rates[best]
    alone = ~np.isfinite(left) & ~np.isfinite(right)
    no_left, no_right = ~np.isfinite(left), ~np.isfinite(right)
    left, to_left = np.where(no_left, right, left), np.where(no_left, to_right, to_left)
    right, to_right = np.where(no_right, left, right), np.where(no_right, to_left, to_right)
    left, right = np.where(alone, 1.0, left), np.where(alone, 1.0, right)
    to_left, to_right = (np.where(to > 0, to, 1.0) for to in (to_left, to_right))
    # The parabola through (-to_left, left), (0, 0), (to_right, right): slope x + curvature x^2 / 2.
    curvature = 2 * (right / to_right + left / to_left) / (to_left + to_right)
    slope = right / to_right - curvature * to_right / 2
    step = np.sqrt(to_left * to_right)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_best = np.where(curvature > 0, -slope / curvature, 0.0)
        bent = curvature * step**2
        steps = from_best / step
        variance = step**2 * noise_sd**2 * (2 + 24 * steps**2) / (4 * bent**2)
    variance = np.where(bent > 0, np.minimum(variance, step**2 / 4), step**2 / 4)
    excess = np.where(alone, noise_sd, curvature * variance / 2)
    return Lowest(log_rates[best] + from_best, np.sqrt(variance), excess, best)


def _window(rates: np.ndarray, losses: np.ndarray, best: int) -> tuple[float, float]:
    good = losses <= losses[best] + NEARLY * abs(losses[best])
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(rates) and good[high + 1]:
        high += 1
    return float(rates[low]), float(rates[high])
