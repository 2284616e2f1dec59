"""The learning rate of an arm from one run per rate, and what it leaves uncertain in the arm's loss.

    choose(rates, losses, noise_sd, planned_sd=None, doublings=0) -> Chosen     before judging, and again after it
    expected_variance(noise_sd) -> float       what `Chosen.variance` will be about, for a plan
    Chosen: rate, low, high, excess_nats, variance (for `ladder.Trained.tuning_variance`), at_an_edge, window, text()

The rate is the lowest point of a least-squares parabola in log rate, through the best run and its neighbours: one on
each side, or two where one does not make its curvature clear of the noise. Taking the best run of the grid instead
leaves an arm half a step from its optimum by chance, which no number of judged seeds shows.

With x the steps from the best run, c the parabola's x^2 coefficient, f its lowest point and V the covariance of its
coefficients for noise of variance 1, the lowest point has the variance t s^2 / c^2, t = (V11 + 4 f V12 + 4 f^2 V22) /
4, for noise of standard deviation s. The loss there is above the lowest by c times the squared distance: a multiple of
chi-squared with one degree of freedom, of mean m = t s^2 / c (`excess_nats`) and mean square 3 m^2 (`variance`). As
the best run of a grid is a lucky one, c comes out too large; FLATTERED of its standard errors are taken off it, and m
is MOST s at most.

Shapes: R arms, m rates of one grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

NEARLY = 0.01
"""A rate is in the window where its loss is at most so much above the best, relatively."""
CLEAR = 9.0
"""In standard deviations of a run: below it the rise of two neighbours over the best run, together, is not clear."""
FLATTERED, MOST = 2.0, 0.15
"""Found by simulation, with CLEAR: `variance` is then about the mean square of what is lost, for losses that rise by
1/8 to 16 standard deviations of a run one step off the best rate (benchmarks/verdicts.py tuning)."""
UNLIKE = 0.006
"""What a curve that is no parabola adds to the loss, in the rise one step off the best rate (root mean square, of
curves up to 30% steeper above it and as much flatter below)."""
HALF_DECADE = float(np.log(10)) / 2
SHIFT = 0.4 * float(np.log(2))
"""By how much the logarithm of a rate that is kept for a larger size falls each time the size doubles, at equal tokens
a parameter: the best one falls by 0.15 to 0.33 half decades (DeepSeek-AI 2024, Bjorck et al. 2024)."""
DRIFT = 0.1 * HALF_DECADE
"""How far it is off by that, a standard deviation."""
USUALLY = 0.2
"""Root of what tuning adds to the variance, in standard deviations of a run: 0.1 to 0.26 in benchmarks/verdicts.py."""
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


def expected_variance(noise_sd: float) -> float:
    """What tuning on one run a rate usually adds to the variance of an arm's loss, nats squared; for a plan."""
    return (USUALLY * noise_sd) ** 2


class Lowest(NamedTuple):
    """Of R arms; each [R]."""

    log_rate: np.ndarray
    error: np.ndarray
    """Standard error of it."""
    bend: np.ndarray
    """What the loss rises one step away from it, nats; 0 where it is not known."""
    excess: np.ndarray
    variance: np.ndarray
    best: np.ndarray
    """The index of the best run."""


def choose(
    rates: Sequence[float],
    losses: Sequence[float | None],
    noise_sd: float,
    planned_sd: float | None = None,
    doublings: float = 0.0,
) -> Chosen:
    """The learning rate of an arm; None or a loss that is not finite is a run that diverged.

    `noise_sd` is the standard deviation of one run over seeds in nats. The rate is chosen with the noise that is
    planned; once the judged runs have shown theirs (`noise.sd_of_run`), the same call with that as `noise_sd` and the
    former as `planned_sd` gives the same rate, and the variance that enters the intervals. `doublings`: the rate is for
    a size so many times twice that of the runs, SHIFT lower each time. Raises ValueError where rates do not ascend, are
    fewer than three, or no run finished.
    """
    grid = np.asarray(rates, dtype=float)
    if len(grid) < 3 or len(grid) != len(losses) or grid[0] <= 0 or (np.diff(grid) <= 0).any():
        raise ValueError("a grid needs three or more ascending rates above zero, with one loss each")
    found = np.array([np.inf if loss is None or not np.isfinite(loss) else loss for loss in losses], dtype=float)
    if not np.isfinite(found).any():
        raise ValueError("no run of the grid finished")
    of = lowest(np.log(grid), found[None], np.array([noise_sd]), noise_sd if planned_sd is None else planned_sd)
    best, log_rate, error = int(of.best[0]), float(of.log_rate[0]), float(of.error[0])
    nearest = np.log(grid[max(best - 1, 0)]), np.log(grid[min(best + 1, len(grid) - 1)])
    ends = (np.clip(log_rate + side * RANGE * error, *nearest) for side in (-1, 1))
    low, high = (float(np.exp(end)) for end in ends)
    edge: Literal["lowest", "highest"] | None = None
    if best in (0, len(grid) - 1):
        edge = "lowest" if best == 0 else "highest"
    excess = float(of.excess[0])
    rate = float(f"{np.exp(log_rate):.4g}")  # a number that can be written down
    variance = float(carried_variance(of, doublings, float(np.diff(np.log(grid)).mean()))[0])
    kept = float(np.exp(-SHIFT * doublings))
    return Chosen(
        float(f"{rate * kept:.4g}"), low * kept, high * kept, excess, variance, edge, _window(grid, found, best)
    )


def lowest(log_rates: np.ndarray, losses: np.ndarray, noise_sd: np.ndarray, planned_sd: np.ndarray | float) -> Lowest:
    """Where the loss is lowest, of losses [R, m] with the noise [R]; a loss of inf is a run that diverged.

    At an end of the grid, and beside a run that diverged, the best run's rate is kept, the missing neighbour is taken
    to be the other's mirror image, and the optimum to be anywhere within half a step.
    """
    rows, last = np.arange(len(losses)), losses.shape[1] - 1
    best = losses.argmin(1)
    rises = losses - losses[rows, best][:, None]
    left = np.where(best > 0, rises[rows, np.maximum(best - 1, 0)], np.inf)
    right = np.where(best < last, rises[rows, np.minimum(best + 1, last)], np.inf)
    widths = np.diff(log_rates)
    step = (widths[np.maximum(best - 1, 0)] + widths[np.minimum(best, last - 1)]) / 2
    away = (log_rates - log_rates[best][:, None]) / step[:, None]
    reach = np.where(left + right < CLEAR * planned_sd, 2, 1)
    near = (np.abs(np.arange(last + 1) - best[:, None]) <= reach[:, None]) & np.isfinite(rises)
    bounded = np.isfinite(left) & np.isfinite(right)
    bend, at, spread, bend_error = _parabola(away, np.where(near, rises, 0.0), near)
    surely = np.maximum(bend - FLATTERED * bend_error * noise_sd, 1e-12)
    excess = np.minimum(spread * noise_sd**2 / surely, MOST * noise_sd)
    # Where a neighbour is missing no parabola is determined: its numbers are not used, and may be of either sign.
    error = np.minimum(np.sqrt(np.where(bounded, spread, 0.0)) * noise_sd / surely, 0.5)
    # With one neighbour, c is its rise; within half a step c x^2 is c / 12 on average. With none nothing is known of c.
    rise = np.minimum(left, right)
    kept = np.maximum(np.where(np.isfinite(rise), rise / 12, 0.0), np.where(np.isfinite(rise), MOST, 1.0) * noise_sd)
    excess = np.where(bounded, excess, kept)
    variance = 3 * excess**2 + (UNLIKE * np.where(bounded, np.maximum(bend, 0.0), 0.0)) ** 2
    error = step * np.where(bounded, error, 0.5)
    known = np.where(bounded, np.maximum(bend, 0.0), np.where(np.isfinite(rise), rise, 0.0))
    return Lowest(log_rates[best] + np.where(bounded, step * at, 0.0), error, known, excess, variance, best)


def carried_variance(of: Lowest, doublings: float, step: float = HALF_DECADE) -> np.ndarray:
    """`Lowest.variance` where the rate is kept, SHIFT lower each time, for a size so many times twice that of the runs.

    There the best rate lies d steps beside it, for every arm about alike; an arm whose rate is e steps beside its own
    then loses c (d + e)^2, of which 2 c d e differs from arm to arm. `step`: of the grid, in log rate.
    """
    moved = DRIFT / step * doublings
    more: np.ndarray = of.variance + 4 * of.bend * moved**2 * of.excess
    return more


def variance_of_sum(coefficients: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """What tuning adds to the variance of a sum over the rungs of one arm; both [..., rungs].

    Rungs that keep one rate err together, so terms of one sign add up as they are and not as squares.
    """
    terms = coefficients * np.sqrt(variances)
    of: np.ndarray = np.maximum(terms, 0.0).sum(-1) ** 2 + np.minimum(terms, 0.0).sum(-1) ** 2
    return of


def _parabola(
    away: np.ndarray, rises: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """c, f, t and the root of V22 of the module's first lines, each [R], of the points that are `near`."""
    powers = np.stack([np.ones_like(away), away, away**2], -1)
    covariance = np.linalg.pinv(np.einsum("rm,rma,rmb->rab", near.astype(float), powers, powers), hermitian=True)
    _, slope, curvature = np.einsum("rab,rmb,rm->ar", covariance, powers, near * rises)
    rising = curvature > 1e-12
    at = np.clip(np.where(rising, -slope / np.where(rising, 2 * curvature, 1.0), 0.0), -1.0, 1.0)
    spread = (covariance[:, 1, 1] + 4 * at * covariance[:, 1, 2] + 4 * at**2 * covariance[:, 2, 2]) / 4
    return curvature, at, spread, np.sqrt(covariance[:, 2, 2])


def _window(rates: np.ndarray, losses: np.ndarray, best: int) -> tuple[float, float]:
    good = losses <= losses[best] + NEARLY * abs(losses[best])
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high + 1 < len(rates) and good[high + 1]:
        high += 1
    return float(rates[low]), float(rates[high])
