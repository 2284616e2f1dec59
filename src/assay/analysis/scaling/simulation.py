"""Simulated ladders with known truth: what the methods of a gate are checked on, and what a plan's power is read off.

The baseline's loss is a N^-b + c. The candidate at cost N reaches what the baseline reaches at N times its gain, so
that the true gain at each rung is known. Each run adds noise of its own; what a seed does to both arms of a rung adds
the shared part.

Shapes: R ladders, J rungs of the baseline, G of the candidate, S seeds.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from assay.analysis.scaling.ladder import Arrays, LogCosts
from assay.analysis.scaling.noise import pooled
from assay.analysis.scaling.simulated_tuning import Response, tune

Shape = Literal["normal", "skewed"]


@dataclass(frozen=True)
class Truth:
    """A pair of arms and their ladder."""

    rungs: int = 4
    """Of the candidate."""
    above: int = 1
    """More of the baseline, above them."""
    seeds: int = 5
    step: float = 2.0
    """Cost of a rung over that of the one below."""
    first_loss: float = 5.0
    """The baseline's at its lowest rung, nats per token."""
    reducible: float = 0.5
    """The share of it that falls with cost: a = reducible x first_loss, c the rest, N = 1 at the lowest rung."""
    exponent: float = 0.15
    """b."""
    gain: float = 1.0
    """At the candidate's middle rung."""
    trend: float = 0.0
    """Slope of log gain in log cost."""
    dearer: float = 1.0
    """The candidate's cost over the baseline's at one rung."""
    noise: float = 0.01
    """Standard deviation over seeds of one run, nats."""
    shared: float = 0.3
    """The share of its variance that both arms of a rung and seed have in common."""
    shape: Shape = "normal"
    noisier: float = 1.0
    """The candidate's standard deviation over the baseline's."""
    widening: float = 1.0
    """Standard deviation at a rung over that of the rung below."""

    def log_costs(self) -> LogCosts:
        """Of both arms."""
        baseline = np.log(self.step) * np.arange(self.rungs + self.above)
        return LogCosts(baseline, baseline[: self.rungs] + np.log(self.dearer))

    def log_gains(self) -> np.ndarray:
        """[G]."""
        costs = self.log_costs().candidate
        of: np.ndarray = np.log(self.gain) + self.trend * (costs - costs.mean())
        return of

    def baseline_loss(self, log_cost: np.ndarray) -> np.ndarray:
        """In nats, at any log cost."""
        of: np.ndarray = self.first_loss * (self.reducible * np.exp(-self.exponent * log_cost) + 1 - self.reducible)
        return of

    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """The true losses [J] and [G]."""
        costs = self.log_costs()
        return self.baseline_loss(costs.baseline), self.baseline_loss(costs.candidate + self.log_gains())


def draw_noise(generator: np.random.Generator, shape: Shape, size: tuple[int, ...]) -> np.ndarray:
    """Of mean 0 and standard deviation 1; skewed: lognormal with a skewness of 2, some runs far worse than the rest."""
    if shape == "normal":
        return generator.standard_normal(size)
    sigma = 0.5513848
    above = np.exp(sigma * generator.standard_normal(size)) - np.exp(sigma**2 / 2)
    of: np.ndarray = above / np.sqrt(np.exp(sigma**2) * (np.exp(sigma**2) - 1))
    return of


def draw(generator: np.random.Generator, truth: Truth, repeats: int, response: Response | None = None) -> Arrays:
    """Ladders with this truth; with `response` the arms are tuned as a gate tunes them, else each has its best rate."""
    draws = partial(draw_noise, generator, truth.shape)
    j, g, s = truth.rungs + truth.above, truth.rungs, truth.seeds
    widths = truth.noise * truth.widening ** (np.arange(j) - (g - 1) / 2)
    both = np.concatenate([widths, truth.noisier * widths[:g]])
    shared = np.sqrt(truth.shared) * draws((repeats, j, s))
    own = np.sqrt(1 - truth.shared) * draws((repeats, j + g, s))
    losses = np.concatenate(truth.losses())[:, None] + both[:, None] * (
        np.concatenate([shared, shared[:, :g]], 1) + own
    )
    adds = np.zeros((repeats, j + g))
    if response is not None:
        noise = pooled(losses[:, :j], losses[:, j:])
        noise_sd = np.sqrt(noise.single.mean(1))
        tuned = tune(generator, draws, response, np.stack([widths, truth.noisier * widths]), noise_sd)
        lost, adds = (np.concatenate([of[:, 0], of[:, 1, :g]], 1) for of in tuned)
        losses = losses + lost[..., None]
    return Arrays(losses[:, :j], losses[:, j:], adds[:, :j], adds[:, j:])
