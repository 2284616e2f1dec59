"""Whether a candidate's gain grows, shrinks or holds as both become larger.

    trend(ladder, axis="flops", margin=None, level=0.95) -> Trend | None     None: one judged rung, no cost
    Trend: verdict (GROWS, SHRINKS, HOLDS, NOT TOLD), slope, low, high (None: not told), margin, per_tenfold, text()

The slope is that of a least-squares line through log gain against the candidate's log cost. Its error follows from
those of all losses of both arms, seed by seed, to first order (the delta method), with the noise pooled over arms and
rungs.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from assay.analysis.scaling import curve
from assay.analysis.scaling.gain import Reads, roots
from assay.analysis.scaling.ladder import Arrays, Axis, Ladder, LogCosts
from assay.analysis.scaling.noise import error, quantile
from assay.analysis.scaling.tuning import variance_of_sum
from assay.analysis.statistics import LEVEL

ROUNDING = 1e-6
"""Of a slope: gains are found to 1e-9."""
Verdict = Literal["GROWS", "SHRINKS", "HOLDS", "NOT TOLD"]


@dataclass(frozen=True)
class Trend:
    """How log gain changes with log cost; 0.1: a gain of 1.00 becomes 1.26 at ten times the cost."""

    axis: Axis
    slope: float | None
    low: float | None
    high: float | None
    margin: float | None
    """HOLDS is said only where the interval lies within plus or minus so much; None: never."""
    level: float = LEVEL

    @property
    def verdict(self) -> Verdict:
        """HOLDS goes before the other two: a slope inside the margin counts as none."""
        if self.low is None or self.high is None:
            return "NOT TOLD"
        if self.margin is not None and -self.margin <= self.low and self.high <= self.margin:
            return "HOLDS"
        if self.low > 0:
            return "GROWS"
        return "SHRINKS" if self.high < 0 else "NOT TOLD"

    @property
    def per_tenfold(self) -> float | None:
        """By what factor the gain changes where the cost grows tenfold."""
        return None if self.slope is None else float(10.0**self.slope)

    def text(self) -> str:
        """ "GROWS: the gain changes by 1.26 times for every ten times the flops, 95% 1.05 to 1.51"."""
        if self.slope is None or self.low is None or self.high is None:
            return "NOT TOLD: not every rung has a gain"
        change, low, high = (10.0**of for of in (self.slope, self.low, self.high))
        per = f"for every ten times the {self.axis}"
        interval = f"{100 * self.level:.4g}% {low:.3g} to {high:.3g}"
        return f"{self.verdict}: the gain changes by {change:.3g} times {per}, {interval}"


class Slopes(NamedTuple):
    """Of R ladders; nan where some rung has no gain; each [R]."""

    slope: np.ndarray
    half: np.ndarray


def trend(ladder: Ladder, axis: Axis = "flops", margin: float | None = None, level: float = LEVEL) -> Trend | None:
    """The trend of the gain along the ladder; `margin` is in the slope of log gain per log cost."""
    costs = ladder.log_costs(axis)
    if costs is None or len(ladder.judged) < 2:
        return None
    found = slopes(ladder.arrays(), costs, level)
    slope, half = float(found.slope[0]), float(found.half[0])
    if not np.isfinite(slope + half):
        return Trend(axis, None, None, None, margin, level)
    return Trend(axis, slope, slope - half, slope + half, margin, level)


def slopes(arrays: Arrays, costs: LogCosts, level: float) -> Slopes:
    """The slope of log gain in log cost, and the half-width of its interval."""
    reads = [Reads(arrays, costs, rung) for rung in range(len(costs.candidate))]
    at = np.stack([roots(each, costs) for each in reads], 1)
    told = np.isfinite(at).all(1)
    at = np.where(told[:, None], at, costs.candidate)
    centred = costs.candidate - costs.candidate.mean()
    line = centred / (centred**2).sum()
    of, noise = reads[0].curve, reads[0].noise
    _, weights, by_bend = curve.read(of, at)
    # A gain is where the curve meets the candidate's loss: it moves with that loss by 1 / (slope of the curve).
    falls = curve.slope(of, at)
    of_candidate = line / falls
    of_baseline = -(of_candidate[..., None] * weights).sum(1)
    bend = (of_candidate * by_bend).sum(1) ** 2 * of.bend_variance
    tuning = variance_of_sum(of_baseline, arrays.baseline_tuning)
    tuning = tuning + variance_of_sum(of_candidate, arrays.candidate_tuning)
    found = error(noise, of_baseline, of_candidate, bend + tuning)
    slope = (line * (at - costs.candidate)).sum(1)
    half = np.maximum(np.sqrt(found.variance) * quantile(found.degrees, level), ROUNDING)
    told &= (falls < 0).all(1) & np.isfinite(reads[0].least_half)
    return Slopes(np.where(told, slope, np.nan), np.where(told, half, np.nan))
