"""Simulated tuning, as a gate tunes: a grid at the smallest size, three rates at the next, kept for larger ones.

Shapes: R gates, A arms (2: the baseline and the candidate), J rungs, m rates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from assay.analysis.scaling.tuning import HALF_DECADE, SHIFT, Lowest, carried_variance, lowest

Draws = Callable[[tuple[int, ...]], np.ndarray]
"""Shape -> numbers of mean 0 and standard deviation 1."""
PILOT_DEGREES = 4
"""Of freedom, with which a gate's pilot knows the noise that rates are chosen with."""


@dataclass(frozen=True)
class Response:
    """How an arm's loss depends on its learning rate, and the grid it is tuned on with one run a rate."""

    rates: int = 5
    rise: float = 0.03
    """Nats lost one step of the grid away from the best rate: a parabola in log rate."""
    lopsided: float = 0.2
    """Far above the best rate the loss rises by so much more than the parabola, relatively, and below by less."""
    drift: float = SHIFT / HALF_DECADE
    """By so many steps the best rate falls from a rung to the next, of both arms."""
    apart: float = 0.35
    """How far the best rates of the two arms lie from each other, in steps: a standard deviation over gates."""
    extended: int = 2
    """By so many rates a grid is extended at an end, for all arms, while some arm's best run is there."""
    planned: float = 1.0
    """The noise that rates are chosen with, over the true one."""
    parabola: bool = True
    """Whether the rate is read off the parabola; the best run's rate otherwise, as if it were certain."""

    def lost(self, steps: np.ndarray) -> np.ndarray:
        """Nats, so many steps from the best rate."""
        of: np.ndarray = self.rise * steps**2 * (1 + self.lopsided * np.tanh(steps))
        return of


class Tuned(NamedTuple):
    """Of R gates."""

    lost: np.ndarray
    """[R, A, J]: nats above the loss at the best rate."""
    variance: np.ndarray
    """[R, A, J]: the mean square of that, as estimated."""


def tune(
    generator: np.random.Generator, draws: Draws, response: Response, widths: np.ndarray, noise_sd: np.ndarray
) -> Tuned:
    """Tune both arms; `widths` [A, J] is the noise of one run, `noise_sd` [R] what the judged runs show of it."""
    gates, (arms, rungs) = len(noise_sd), widths.shape
    # Where the best rate lies on the grid is chance; that of the other arm lies near.
    middle = generator.uniform(-1, 1, (gates, 1)) + response.apart / np.sqrt(2) * generator.standard_normal(
        (gates, arms)
    )
    pilot = np.sqrt(generator.chisquare(PILOT_DEGREES, gates) / PILOT_DEGREES)
    planned_sd = response.planned * pilot * widths[0, :2].mean()
    half, shift = (response.rates - 1) // 2, SHIFT / HALF_DECADE
    grid = _extended(draws, response, middle, half, widths[:, 0])
    first = _chosen(grid, response, noise_sd, planned_sd)
    at = [first.log_rate]
    found = [first]
    if rungs > 1:
        around = first.log_rate - shift
        near = _extended(draws, response, middle - response.drift - around, 1, widths[:, 1])
        second = _chosen(near, response, noise_sd, planned_sd)
        at.append(second.log_rate + around)
        found.append(second)
    lost, variance = [], []
    for rung in range(rungs):
        tuned_at, kept = min(rung, 1), max(rung - 1, 0)
        lost.append(response.lost(at[tuned_at] - shift * kept - middle + response.drift * rung))
        of = carried_variance(found[tuned_at], kept)
        variance.append(of if response.parabola else np.zeros_like(of))
    return Tuned(np.stack(lost, -1), np.stack(variance, -1))


def _extended(draws: Draws, response: Response, middle: np.ndarray, half: int, widths: np.ndarray) -> np.ndarray:
    """[R, A, m]: runs at the rates from -half to half, inf where none was run; wider while one is best at an end."""
    last = half + response.extended
    steps = np.arange(-last, last + 1, dtype=float)
    runs = response.lost(steps - middle[..., None])
    runs = runs + widths[:, None] * draws(runs.shape)
    low, high = np.full(len(runs), -half), np.full(len(runs), half)
    for turn in range(response.extended + 1):
        outside = (steps < low[:, None]) | (steps > high[:, None])
        seen = np.where(outside[:, None], np.inf, runs)
        best = seen.argmin(-1) - last
        if turn < response.extended:
            low, high = low - (best == low[:, None]).any(1), high + (best == high[:, None]).any(1)
    return seen


def _chosen(seen: np.ndarray, response: Response, noise_sd: np.ndarray, planned_sd: np.ndarray) -> Lowest:
    """The rate of each arm, in steps from the middle of its rates; each number [R, A]."""
    gates, arms, rates = seen.shape
    steps = np.arange(rates, dtype=float) - rates // 2
    known, planned = (np.repeat(of, arms) for of in (noise_sd, planned_sd))
    found = lowest(steps, seen.reshape(-1, rates), known, planned)
    found = Lowest(*(of.reshape(gates, arms) for of in found))
    return found if response.parabola else found._replace(log_rate=steps[found.best])
