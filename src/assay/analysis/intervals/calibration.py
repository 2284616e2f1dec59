"""How many standard errors an interval needs, so that all intervals of a study hold together at one level.

The number is found by simulation: arms that do not differ are given noise of several shapes, and the largest
|difference| / error over all pairs, and over all planned looks, is noted. The critical value is the one that is passed
in a share 1 - level of the repeats under the least favourable shape.

Shapes: R repeats, k arms, n seeds.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from assay.analysis.intervals.paired import Differences, Moments, differences, moments, of_moments
from assay.seeding import derive

REPEATS = 40_000
"""The share that passes a critical value is then known to 0.1 per cent points."""
REPEATS_OF_MANY = 10_000
"""The same for families of more than MANY pairs, for which a repeat takes long."""
MANY = 60
DRAWN_AT_ONCE = 2_000_000
"""Numbers in one step of the simulation: some 100 MB."""
WIDEST = 3.0
"""The promise holds for normal noise whose standard deviations differ up to so many times between arms."""
CLUSTERED_SHARE = 0.625
"""The most of the false alarms that may come from two arms of which each stays in one of two clusters on all seeds."""

CLUSTER_WIDTH = 0.03
"""Standard deviation inside a cluster, in distances of clusters."""
MARGIN = 1.03
CLUSTERED_ALLOWANCE = 1.04
"""Clustered scores may raise a few more false alarms than others, 5.2% for 5%: their share jumps with the value, so
that the last tenth of a per cent point would cost much."""


class Family(NamedTuple):
    """The intervals that hold together."""

    arms: tuple[int, ...]
    """The number of arms that are compared with each other, of each size of the study by itself."""
    baseline: bool
    """Whether only the first arm is compared with each of the others."""
    looks: tuple[int, ...]
    """After how many seeds the intervals are formed; one number where there is one look."""

    @property
    def pairs(self) -> int:
        """How many intervals there are at each look."""
        return sum(k - 1 if self.baseline else k * (k - 1) // 2 for k in self.arms)

    def in_any_shape(self, level: float) -> bool:
        """Whether the promise holds for noise in two clusters too, as of training that ends on one of two plateaus.

        Where each arm is in either cluster half of the time, the n differences of a pair are all 1 or all -1 in a
        share 2 / 4^n of studies, and then no error that is estimated from them can be large enough. The promise needs
        this to be rare beside the false alarms of the first look: two arms with three seeds, three with four, six with
        five, at 95%.
        """
        first = (1 - level) * self.looks[0] / self.looks[-1]
        return bool(2 * self.pairs / 4 ** self.looks[0] <= CLUSTERED_SHARE * first * (1 + 1e-9))


def critical_values(family: Family, level: float, repeats: int | None = None) -> tuple[float, ...]:
    """For each look, the half-width of all its intervals in standard errors; `repeats` is REPEATS or so by default.

    At look j a share (1 - level) n_j / n_last of false alarms has been spent (Lan and DeMets 1983, with a linear
    function): the value of a look is passed by what is left of it, among repeats that passed at no look before. So a
    study may stop at any look, and its intervals hold with the level (repeated confidence intervals, Jennison and
    Turnbull 1989).
    """
    return _critical_values(family, round(level, 12), repeats or _usual_repeats(family))


@lru_cache(maxsize=256)
def _critical_values(family: Family, level: float, repeats: int) -> tuple[float, ...]:
    clusters = family.in_any_shape(level)
    largest, allowed = null_draws(family, clusters, repeats), _allowed(family, clusters)
    passed = np.zeros(largest.shape[:2], bool)
    values = []
    for look, seeds in enumerate(family.looks):
        spent = (1 - level) * seeds / family.looks[-1]
        # Of every shape so many repeats may pass at this look at most.
        left = np.floor(allowed * spent * largest.shape[1]).astype(int) - passed.sum(1)
        value = max(_passed_by(of[~before, look], int(n)) for of, before, n in zip(largest, passed, left, strict=True))
        passed |= largest[:, :, look] > value
        values.append(float(value))
    return tuple(values)


def adjusted_p(family: Family, level: float, ratio: float) -> float | None:
    """The share of repeats of the least favourable shape in which some pair has a ratio so large; None with looks."""
    if len(family.looks) > 1:
        return None
    clusters = family.in_any_shape(level)
    largest = null_draws(family, clusters, _usual_repeats(family))
    return float(((largest[:, :, 0] >= ratio).mean(1) / _allowed(family, clusters)).max())


def _allowed(family: Family, clusters: bool) -> np.ndarray:
    """[shapes]: the share of false alarms that each shape may raise, in shares of what is promised."""
    return np.array([1.0] * (len(_wide_arms(family)) + 1) + [CLUSTERED_ALLOWANCE] * 3 * clusters)


def _wide_arms(family: Family) -> list[int]:
    """The numbers of arms that have WIDEST times the noise of the others, in the shapes of normal noise."""
    most = max(family.arms)
    return sorted({*range(min(most, 6)), most // 2, most - 1})


def _usual_repeats(family: Family) -> int:
    return REPEATS if family.pairs <= MANY else REPEATS_OF_MANY


def _passed_by(values: np.ndarray, count: int) -> float:
    """The smallest number that at most `count` of `values` exceed."""
    return float(np.partition(values, -count - 1)[-count - 1])


@lru_cache(maxsize=16)
def null_draws(family: Family, clusters: bool, repeats: int) -> np.ndarray:
    """[shapes, R, looks]: the largest |difference| / error over all pairs, of arms that do not differ.

    The shapes: normal noise, of which the first m arms have WIDEST times the standard deviation of the others; uniform
    noise; and with `clusters` noise in two and in three of them, and most of it near two ends (beta).
    """
    numbers = sum(family.arms) * family.looks[-1]
    chunk = max(1, DRAWN_AT_ONCE // max(numbers, sum(k * k for k in family.arms)))
    parts = [
        _largest(family, clusters, np.random.default_rng(derive(0, "calibration", start)), min(chunk, repeats - start))
        for start in range(0, repeats, chunk)
    ]
    return np.concatenate(parts, axis=1)


def _largest(family: Family, clusters: bool, generator: np.random.Generator, repeats: int) -> np.ndarray:
    """The same for some repeats."""
    found: list[np.ndarray] = [
        np.stack(
            [
                np.stack([_of_differences(of_moments(of), family.baseline) for of in at_look], -1)
                for at_look in _noises(generator, (repeats, k, family.looks[-1]), family, clusters)
            ]
        )
        for k in family.arms
    ]
    largest: np.ndarray = np.stack(found).max(0)
    return largest


def largest_ratio(scores: np.ndarray, baseline: bool) -> np.ndarray:
    """[R]: the largest |difference| / error of the pairs of scores [R, k, n]."""
    return _of_differences(differences(scores), baseline)


def _of_differences(found: Differences, baseline: bool) -> np.ndarray:
    # 0 where both are 0, as between an arm and itself.
    ratio: np.ndarray = np.abs(found.mean) / np.where(found.error > 0, found.error, np.inf)
    largest: np.ndarray = ratio[..., 0, :].max(-1) if baseline else ratio.max((-2, -1))
    return largest


def _noises(
    generator: np.random.Generator, size: tuple[int, int, int], family: Family, clusters: bool
) -> Iterator[list[Moments]]:
    """The moments at every look of noise [R, k, n] of every shape; as many shapes for any k of the family."""

    def at_looks(noise: np.ndarray) -> list[Moments]:
        return [moments(noise[..., :seeds]) for seeds in family.looks]

    normal = at_looks(generator.standard_normal(size))
    for m in _wide_arms(family):
        widths = np.where(np.arange(size[1]) < m, WIDEST, 1.0)
        yield [Moments(of.means * widths, of.covariances * np.outer(widths, widths), of.seeds) for of in normal]
    yield at_looks(generator.random(size))
    if clusters:
        near = CLUSTER_WIDTH * generator.standard_normal(size)
        for clustered in (generator.random(size) < 0.5, generator.integers(0, 3, size)):
            # Means of clustered scores are clustered too. A margin keeps the value off the inner slope of a cluster,
            # where noise that is a little narrower would pass it far more often.
            yield [of._replace(means=of.means * MARGIN) for of in at_looks(near + clustered)]
        yield at_looks(generator.beta(0.2, 0.2, size))
