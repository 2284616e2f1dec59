"""A power law with a floor through the rungs of one arm, L = a N^-b + c, by profile likelihood. No verdict rests on it.

    power_law(ladder, arm="baseline", axis="flops", level=0.95) -> PowerLaw | None     None: fewer than 4 rungs, no cost
    PowerLaw: exponent, floor (Bounded), told, fits, back_test, predict(cost) -> Bounded, text()

For each exponent b the best a and c follow by least squares (a and c not below zero); the interval of b holds those
whose squared errors, in units of the losses' variance, exceed the least by at most t^2. A floor or a prediction is held
in the same way by all b together. The noise is pooled over the rungs, seed by seed.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import fdtrc

from assay.analysis.scaling.ladder import Axis, Ladder
from assay.analysis.scaling.noise import quantile
from assay.analysis.statistics import LEVEL

LEAST_RUNGS, LEAST_OF_BACK_TEST = 4, 5
FURTHEST = 10.0
"""Predictions end at so many times the largest rung."""
TOLD = 2.0
"""An exponent is told where the upper end of its interval is at most so many times the lower one."""
MISFIT = 0.01
"""The law is said not to fit where noise alone would leave such errors in so small a share of ladders."""
LOWEST, HIGHEST = 0.005, 3.0
"""Exponents that are tried."""
GRID, CLOSER = 400, 5
"""So many at once, up to so many times closer around those that fit."""


class Bounded(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BackTest:
    """The top rung as the others predict it."""

    predicted: Bounded
    observed: float
    held: bool
    """Whether the observed loss lies inside the interval of a prediction of it, its own noise included."""


@dataclass(frozen=True)
class PowerLaw:
    """The law through the rungs of one arm."""

    arm: str
    axis: Axis
    exponent: Bounded
    """To be shown only where `told`."""
    floor: Bounded
    """In nats per token."""
    told: bool
    """Whether the rungs tell the exponent from the floor."""
    fits: bool
    """Whether the law goes through the rungs within their noise."""
    back_test: BackTest | None
    profile: "Profile"
    level: float = LEVEL

    def predict(self, cost: float) -> Bounded:
        """The mean loss at `cost`; raises ValueError beyond ten times the largest rung, or below the smallest."""
        lowest, largest = np.exp(self.profile.log_costs[[0, -1]])
        if not lowest * (1 - 1e-9) <= cost <= FURTHEST * largest * (1 + 1e-9):
            raise ValueError(f"{cost:.3g} {self.axis}: predictions go from {lowest:.3g} to {FURTHEST * largest:.3g}")
        return _prediction(self.profile, float(np.log(cost)))

    def text(self) -> str:
        """ "L = a N^-b + c: b 0.21 (0.15 to 0.28), c 2.1 (1.4 to 2.5) nats", or that b and c are not told apart."""
        if not self.told:
            return f"{self.arm}: these rungs do not tell the exponent from the floor"
        b, c = (f"{of.value:.3g} ({of.low:.3g} to {of.high:.3g})" for of in (self.exponent, self.floor))
        return f"{self.arm}: b {b}, c {c} nats" + ("; the law does not fit these rungs" if not self.fits else "")


class Profile(NamedTuple):
    """What is known for each exponent [B]; the losses [J] are means over seeds."""

    log_costs: np.ndarray
    losses: np.ndarray
    variances: np.ndarray
    """Of the means of the losses."""
    bound: float
    """Squared errors may exceed the least by so much."""
    exponents: np.ndarray
    """[B]: from below to above those held, closer together than they matter."""
    squares: np.ndarray
    """[B]: the least sum of squared errors over variances."""

    @property
    def held(self) -> np.ndarray:
        """[B]: whether each exponent is inside the interval."""
        of: np.ndarray = self.squares <= self.squares.min() + self.bound
        return of

    @property
    def best(self) -> int:
        """The index of the exponent with the least squares."""
        return int(self.squares.argmin())


def power_law(
    ladder: Ladder, arm: Literal["baseline", "candidate"] = "baseline", axis: Axis = "flops", level: float = LEVEL
) -> PowerLaw | None:
    """The law of one arm, or None where it has fewer than four rungs or no cost on this axis."""
    costs = ladder.log_costs(axis)
    if costs is None:
        return None
    arrays = ladder.arrays()
    losses, tuning = (
        (arrays.baseline[0], arrays.baseline_tuning[0])
        if arm == "baseline"
        else (arrays.candidate[0], arrays.candidate_tuning[0])
    )
    log_costs: np.ndarray = getattr(costs, arm)
    if len(losses) < LEAST_RUNGS:
        return None
    found = profile(log_costs, losses, tuning, level)
    back_test = None
    if len(losses) >= LEAST_OF_BACK_TEST:
        back_test = _back_test(log_costs, losses, tuning, level)
    exponent, floor = _exponent(found), _prediction(found, None)
    inside = exponent.low > LOWEST and exponent.high < HIGHEST
    spare = len(losses) - 3
    misfit = float(fdtrc(spare, losses.size - len(losses), found.squares.min() / spare))
    return PowerLaw(
        arm=arm,
        axis=axis,
        exponent=exponent,
        floor=floor,
        told=inside and exponent.high <= TOLD * exponent.low,
        fits=misfit >= MISFIT,
        back_test=back_test,
        profile=found,
        level=level,
    )


def profile(log_costs: np.ndarray, losses: np.ndarray, tuning: np.ndarray, level: float) -> Profile:
    """The profile over the exponent, of losses [J, S]; `tuning` [J] adds to the variances of their means."""
    rungs, seeds = losses.shape
    variances = np.maximum(losses.var(1, ddof=1).mean() / seeds + tuning, 1e-24)
    bound = float(quantile(np.array(float(rungs * (seeds - 1))), level)) ** 2
    of = Profile(log_costs, losses.mean(1), variances, bound, np.geomspace(LOWEST, HIGHEST, GRID), np.zeros(GRID))
    for _ in range(CLOSER):
        of = of._replace(squares=_fit(of, None).squares)
        held = np.flatnonzero(of.held)
        if len(held) > GRID // 4:
            break
        ends = of.exponents[max(held[0] - 1, 0)], of.exponents[min(held[-1] + 1, GRID - 1)]
        of = of._replace(exponents=np.linspace(*ends, GRID))
    return of._replace(squares=_fit(of, None).squares)


class _Fitted(NamedTuple):
    """For each exponent [B]: the squares, and a prediction with its variance."""

    squares: np.ndarray
    prediction: np.ndarray
    variance: np.ndarray


def _fit(of: Profile, at: float | None) -> _Fitted:
    """Least squares for a and c, neither below zero, and what they predict at log cost `at` (None: the floor)."""
    middle = of.log_costs.mean()
    weights = 1 / of.variances
    falling = np.exp(-of.exponents[:, None] * (of.log_costs - middle))
    there = np.zeros(len(of.exponents)) if at is None else np.exp(-of.exponents * (at - middle))
    mean, loss = falling @ weights / weights.sum(), float(of.losses @ weights / weights.sum())
    spread = (falling - mean[:, None]) ** 2 @ weights
    a = ((falling - mean[:, None]) * (of.losses - loss)) @ weights / spread
    a, rises = np.maximum(a, 0.0), a < 0
    c = loss - a * mean
    bare = (falling * of.losses) @ weights / (falling**2 @ weights)
    below = c < 0
    a, c = np.where(below, bare, a), np.where(below, 0.0, c)
    variance = 1 / weights.sum() + np.where(rises, 0.0, (there - mean) ** 2 / spread)
    variance = np.where(below, there**2 / (falling**2 @ weights), variance)
    squares = (of.losses - a[:, None] * falling - c[:, None]) ** 2 @ weights
    return _Fitted(squares, a * there + c, variance)


def _exponent(of: Profile) -> Bounded:
    held = of.exponents[of.held]
    return Bounded(float(of.exponents[of.best]), float(held[0]), float(held[-1]))


def _prediction(of: Profile, at: float | None) -> Bounded:
    """At log cost `at`, None for the floor: the ends over all exponents held, and for each what its a and c leave."""
    fitted = _fit(of, at)
    left = np.maximum(of.bound - (of.squares - of.squares.min()), 0.0)
    half = np.sqrt(left * fitted.variance)
    low, high = (
        float(of_end.min()) for of_end in ((fitted.prediction - half)[of.held], -(fitted.prediction + half)[of.held])
    )
    return Bounded(float(fitted.prediction[of.best]), max(0.0, low), -high)


def _back_test(log_costs: np.ndarray, losses: np.ndarray, tuning: np.ndarray, level: float) -> BackTest:
    of = profile(log_costs[:-1], losses[:-1], tuning[:-1], level)
    predicted = _prediction(of, float(log_costs[-1]))
    observed = float(losses[-1].mean())
    own = of.bound * (float(of.variances.mean()) - float(tuning[:-1].mean()) + float(tuning[-1]))
    side = predicted.high - predicted.value if observed > predicted.value else predicted.value - predicted.low
    return BackTest(predicted, observed, abs(observed - predicted.value) <= float(np.hypot(side, np.sqrt(own))))
