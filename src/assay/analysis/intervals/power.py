"""What a study of so many seeds can resolve, and how many seeds a difference takes.

Both are for normal noise that is alike in all arms. Effects are in standard deviations of a pair's difference a - b.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri

from assay.analysis.intervals.calibration import Family, critical_values
from assay.analysis.intervals.paired import differences
from assay.seeding import derive

TRIED = (3, 4, 5, 6, 8, 12)
"""Numbers of seeds for which power is simulated when a number is looked for."""
REPEATS = 20_000
REPEATS_OF_SEARCH = 4_000
"""Of each number that is tried: what comes out is a rough number of seeds."""
SPREAD_LEVEL = 0.8
"""Of the interval for the standard deviation that a range of seeds comes from."""


class SeedRange(NamedTuple):
    """How many seeds a study needs, from the lower to the upper end of what the noise may be."""

    low: int
    high: int


@lru_cache(maxsize=256)
def detectable_effect(value: float, arms: int, seeds: int, power: float, repeats: int = REPEATS) -> float:
    """The effect that is resolved in a share `power` of studies, where intervals are `value` standard errors wide.

    `arms` is the number of arms that are compared with each other.
    """
    generator = np.random.default_rng(derive(0, "power"))
    found = differences(generator.standard_normal((repeats, arms, seeds)))
    # A pair with the true effect e is resolved where e + (noise of its mean) is more than `value` errors.
    needed = value * found.error[:, 0, 1] - found.mean[:, 0, 1]
    return float(np.quantile(needed, power)) / math.sqrt(2)


@lru_cache(maxsize=256)
def _tried(seeds: int, arms: tuple[int, ...], baseline: bool, level: float, power: float) -> float:
    (value,) = critical_values(Family(arms, baseline, (seeds,)), level, REPEATS_OF_SEARCH)
    return detectable_effect(value, max(arms), seeds, power, REPEATS_OF_SEARCH)


def seeds_for(effect: float, arms: tuple[int, ...], baseline: bool, level: float, power: float) -> int:
    """About the number of seeds with which a study resolves `effect` in a share `power` of cases."""
    if effect <= 0:
        raise ValueError(f"an effect of {effect}: only what is above zero can be resolved")
    found = [_tried(seeds, arms, baseline, level, power) for seeds in TRIED]
    at_least = next((index for index, detectable in enumerate(found) if detectable <= effect), None)
    if at_least == 0:
        return TRIED[0]
    if at_least is not None:  # between two numbers of seeds logarithms are nearly linear
        (n, last), (m, detectable) = ((TRIED[i], found[i]) for i in (at_least - 1, at_least))
        share = math.log(last / effect) / math.log(last / detectable)
        needed: float = n * (m / n) ** share
        return math.ceil(needed - 1e-9)
    # With more seeds the critical value falls to that of known errors: effect sqrt(n) = a + b / n.
    n, m = TRIED[-2:]
    one, other = found[-2] * math.sqrt(n), found[-1] * math.sqrt(m)
    b = (one - other) / (1 / n - 1 / m)
    a = other - b / m
    needed = (other / effect) ** 2
    for _ in range(20):
        needed = ((a + b / needed) / effect) ** 2
    return math.ceil(needed - 1e-9)


def seed_range(
    difference: float, spread: float, seeds: int, arms: tuple[int, ...], baseline: bool, level: float, power: float
) -> SeedRange:
    """The seeds a new study needs if the true difference is `difference` and the noise is what it may be.

    `spread` is the standard deviation of the pair's difference over seeds as estimated from `seeds` seeds. The range
    belongs to the ends of its chi-squared interval of SPREAD_LEVEL with seeds - 1 degrees of freedom, which leaves out
    what other pairs tell of the noise.
    """
    degrees = seeds - 1
    tail = (1 - SPREAD_LEVEL) / 2
    ends = (math.sqrt(degrees / chdtri(degrees, tail)), math.sqrt(degrees / chdtri(degrees, 1 - tail)))
    low, high = (seeds_for(abs(difference) / (spread * end), arms, baseline, level, power) for end in ends)
    return SeedRange(low, high)
