"""Compute-equivalent gain: by what factor the baseline's compute must grow to reach the candidate's loss.

    gain(ladder, rung, axis="flops", level=0.95) -> Gain | None     of one rung (an index into ladder.judged)
    gains(ladder, axis="flops", level=0.95) -> list[Gain] | None    of every judged rung; None: no cost on this axis
    Gain: rung, axis, factor, low, high (None: no bound), extrapolated ("above", "below" or None), text()

The interval holds the factors g for which the baseline's loss at g times the candidate's cost is not told from the
candidate's loss (Fieller 1954, for a curve instead of a line; how it is read between rungs: `curve`).

Shapes: R ladders, J rungs of the baseline, G of the candidate, S seeds.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from assay.analysis.scaling import curve
from assay.analysis.scaling.ladder import Arrays, Axis, Ladder, LogCosts
from assay.analysis.scaling.noise import Noise, error, pooled, quantile
from assay.analysis.scaling.tuning import variance_of_sum
from assay.analysis.statistics import LEVEL

STEP = 0.05
"""In log cost, of the search for the ends of an interval; they are then found to 1e-9."""
HALVINGS = 28
SAME = 1e-8
"""Losses that differ by less than this share of them are the same but for rounding."""


@dataclass(frozen=True)
class Gain:
    """What the candidate is worth at one rung, on one axis of cost."""

    rung: str
    axis: Axis
    factor: float | None
    """None where the baseline does not get there within ten times beyond its rungs, or its loss does not fall."""
    low: float | None
    """None: no lower bound."""
    high: float | None
    """None: no upper bound."""
    extrapolated: Literal["above", "below"] | None
    """The candidate's loss lies beyond the baseline's highest or lowest rung."""
    level: float = LEVEL

    def text(self) -> str:
        """ "1.23 times, 95% 1.10 to 1.38, extrapolated"."""
        of = f"{self.factor:.3g} times" if self.factor is not None else "not told"
        if self.low is None and self.high is None:
            interval = "without bounds"
        elif self.high is None:
            interval = f"above {self.low:.3g}"
        elif self.low is None:
            interval = f"below {self.high:.3g}"
        else:
            interval = f"{self.low:.3g} to {self.high:.3g}"
        return f"{of}, {100 * self.level:.4g}% {interval}" + (", extrapolated" if self.extrapolated else "")


class LogGains(NamedTuple):
    """Of one rung of R ladders: log factor and the ends of its interval, -inf or inf where there is none; [R]."""

    mean: np.ndarray
    """inf, -inf: the baseline stays above or below that loss within reach; nan: its loss does not fall there."""
    low: np.ndarray
    high: np.ndarray


def gain(ladder: Ladder, rung: int, axis: Axis = "flops", level: float = LEVEL) -> Gain | None:
    """The gain at one rung; None where the axis was not measured, or the baseline's cost does not grow on it."""
    costs = ladder.log_costs(axis)
    if costs is None:
        return None
    arrays = ladder.arrays()
    found = log_gains(arrays, costs, rung, level)
    mean, low, high = (float(of[0]) for of in found)
    at = mean + costs.candidate[rung]
    beyond: Literal["above", "below"] | None = None
    if at > costs.baseline[-1] + 1e-9:
        beyond = "above"
    elif at < costs.baseline[0] - 1e-9:
        beyond = "below"
    return Gain(
        rung=ladder.judged[rung].name,
        axis=axis,
        factor=float(np.exp(mean)) if np.isfinite(mean) else None,
        low=float(np.exp(low)) if np.isfinite(low) else None,
        high=float(np.exp(high)) if np.isfinite(high) else None,
        extrapolated=beyond,
        level=level,
    )


def gains(ladder: Ladder, axis: Axis = "flops", level: float = LEVEL) -> list[Gain] | None:
    """The gain at every judged rung."""
    found = [gain(ladder, rung, axis, level) for rung in range(len(ladder.judged))]
    return None if None in found else [of for of in found if of is not None]


def log_gains(arrays: Arrays, costs: LogCosts, rung: int, level: float) -> LogGains:
    """The log gain of R ladders at one rung."""
    reads = Reads(arrays, costs, rung)
    at = _searched(costs)
    excess, half = reads.with_half(np.broadcast_to(at, (len(arrays.baseline), len(at))), level)
    mean = _nearest_root(reads, at, excess, costs.candidate[rung])
    low, high = (_end(reads, at, excess, half, mean, side, level) for side in (-1, 1))
    first, last = _measured_ends(reads, costs, level)
    low, high = np.minimum(low, first), np.maximum(high, last)
    return LogGains(*(of - costs.candidate[rung] for of in (mean, low, high)))


def _measured_ends(reads: "Reads", costs: LogCosts, level: float) -> tuple[np.ndarray, np.ndarray]:
    """[R] each: the first and the last cost on the baseline's ladder, the candidate's own among them, that is not told.

    Where the curve is nearly flat, costs beside the nearest equal loss may be told and others, farther off, not. An own
    cost off the ladder that is not told is no end: nothing says that costs farther off are told, so there is none.
    """
    own = costs.candidate[reads.rung]
    at = np.arange(min(costs.baseline[0], own), max(costs.baseline[-1], own), STEP)
    at = np.sort(np.concatenate([at, costs.baseline, [own]]))
    excess, half = reads.with_half(np.broadcast_to(at, (len(reads.candidate), len(at))), level)
    open_ = np.abs(excess) <= half
    first, last = np.where(open_, at, np.inf).min(1), np.where(open_, at, -np.inf).max(1)
    below, above = own < costs.baseline[0], own > costs.baseline[-1]
    return np.where(below & (first <= own), -np.inf, first), np.where(above & (last >= own), np.inf, last)


def roots(reads: "Reads", costs: LogCosts) -> np.ndarray:
    """[R]: the log cost at which the baseline has the candidate's loss, as in `LogGains.mean` not always finite."""
    at = _searched(costs)
    excess = reads.excess(np.broadcast_to(at, (len(reads.candidate), len(at))))
    return _nearest_root(reads, at, excess, costs.candidate[reads.rung])


def _searched(costs: LogCosts) -> np.ndarray:
    low, high = costs.baseline[0] - curve.FURTHEST, costs.baseline[-1] + curve.FURTHEST
    return np.linspace(low, high, int((high - low) / STEP) + 2)


class Reads:
    """The baseline's loss at any cost, less the candidate's at one rung, and how wide an interval of it is."""

    def __init__(self, arrays: Arrays, costs: LogCosts, rung: int) -> None:
        self.noise = pooled(arrays.baseline, arrays.candidate)
        self.arrays, self.rung = arrays, rung
        self.candidate = arrays.candidate[:, rung].mean(-1)
        variances = self.noise.single / self.noise.seeds + arrays.baseline_tuning
        # Arms that differ by the same amount on every seed: seeds change nothing, so they are no repetitions.
        scale = SAME * self.candidate
        apart = arrays.candidate - arrays.baseline[:, : arrays.candidate.shape[1]]
        alike = apart.var(-1, ddof=1).mean(1) <= scale**2
        unrepeated = alike & (np.abs(apart.mean(-1)) > scale[:, None]).any(1)
        self.least_half = np.where(unrepeated, np.inf, scale)
        self.curve = curve.through(costs.baseline, arrays.baseline.mean(-1), variances)

    def excess(self, at: np.ndarray) -> np.ndarray:
        """[R, K]: baseline less candidate at log costs [R, K]."""
        of: np.ndarray = curve.read(self.curve, at).loss - self.candidate[:, None]
        return of

    def with_half(self, at: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Baseline less candidate, and the half-width of its interval; each [R, K] at log costs [R, K]."""
        loss, weights, by_bend = curve.read(self.curve, at)
        of_candidate = np.zeros(self.arrays.candidate.shape[1])
        of_candidate[self.rung] = -1.0
        tuning = variance_of_sum(weights, self.arrays.baseline_tuning[:, None])
        tuning = tuning + self.arrays.candidate_tuning[:, self.rung, None]
        bend = by_bend**2 * self.curve.bend_variance[:, None]
        noise = Noise(self.noise.paired[:, None], self.noise.single[:, None], self.noise.seeds)
        of = error(noise, weights, np.broadcast_to(of_candidate, (*at.shape, len(of_candidate))), bend + tuning)
        half = np.sqrt(of.variance) * quantile(of.degrees, level)
        return loss - self.candidate[:, None], np.maximum(half, self.least_half[:, None])


def _nearest_root(reads: Reads, at: np.ndarray, excess: np.ndarray, start: float) -> np.ndarray:
    """[R]: the log cost nearest to `start` at which the baseline falls to the candidate's loss."""
    falls = (excess[:, :-1] > 0) & (excess[:, 1:] <= 0)
    distance = np.where(falls, np.abs((at[:-1] + at[1:]) / 2 - start), np.inf)
    first = distance.argmin(1)
    low, high = at[first], at[first + 1]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = reads.excess(middle[:, None])[:, 0] > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    nowhere = np.where((excess > 0).all(1), np.inf, np.where((excess <= 0).all(1), -np.inf, np.nan))
    root: np.ndarray = np.where(falls.any(1), (low + high) / 2, nowhere)
    return root


def _end(
    reads: Reads, at: np.ndarray, excess: np.ndarray, half: np.ndarray, mean: np.ndarray, side: int, level: float
) -> np.ndarray:
    """[R]: how far to one side (-1, 1) of `mean` the two losses are not told apart; -inf or inf where without end."""
    # On the left the baseline's loss must be told to be above the candidate's, on the right below.
    told = -side * excess > half
    beyond = np.where(side > 0, at > mean[:, None], at < mean[:, None]) & told
    ordered = beyond if side > 0 else beyond[:, ::-1]
    points = at if side > 0 else at[::-1]
    first = ordered.argmax(1)
    outside = points[first]
    inside = np.where(first > 0, points[np.maximum(first - 1, 0)], outside)
    inside = np.where(np.isfinite(mean) & (side * (mean - inside) > 0), mean, inside)
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        of, width = (each[:, 0] for each in reads.with_half(middle[:, None], level))
        out = -side * of > width
        inside, outside = np.where(out, inside, middle), np.where(out, middle, outside)
    end: np.ndarray = np.where(ordered.any(1), outside, side * np.inf)
    return end
