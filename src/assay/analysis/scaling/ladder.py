"""What a gate measured: the final losses and the costs of a baseline and a candidate at several sizes.

Cost(flops=, parameters=, tokens=, seconds=, state_bytes=)         each a number, or None where it was not measured
Trained(losses={seed: nats_per_token}, cost=Cost(...), tuning_variance=0.0)              one arm at one size
Rung(name, baseline=Trained, candidate=Trained | None)      no candidate: only above the others, to bracket its loss
Ladder(rungs)                      from the smallest to the largest; .judged, .seeds, .arrays(), .log_cost(axis)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np

Axis = Literal["flops", "parameters", "tokens", "seconds", "state_bytes"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True)
class Cost:
    """What one run of an arm took at one size: training FLOPs, parameters, training tokens, seconds, state bytes."""

    flops: float | None = None
    parameters: float | None = None
    tokens: float | None = None
    seconds: float | None = None
    state_bytes: float | None = None


@dataclass(frozen=True)
class Trained:
    """One arm at one size."""

    losses: Mapping[int, float]
    """Seed -> final test loss in nats per token."""
    cost: Cost
    tuning_variance: float = 0.0
    """Mean square of the nats lost because the learning rate is not quite the best one (`tuning.Chosen`)."""


@dataclass(frozen=True)
class Rung:
    """One size of both arms."""

    name: str
    baseline: Trained
    candidate: Trained | None = None


class Arrays(NamedTuple):
    """A ladder as numbers, or R ladders of one plan: J rungs of the baseline, the first G also of the candidate."""

    baseline: np.ndarray
    """[R, J, S]: losses in nats per token."""
    candidate: np.ndarray
    """[R, G, S]: of the same seeds in the same order."""
    baseline_tuning: np.ndarray
    """[R, J]: mean square of the nats lost to an imperfect learning rate."""
    candidate_tuning: np.ndarray
    """[R, G]."""


class LogCosts(NamedTuple):
    """Natural logarithms of the cost on one axis."""

    baseline: np.ndarray
    """[J], ascending."""
    candidate: np.ndarray
    """[G]."""


@dataclass(frozen=True)
class Ladder:
    """All sizes, from the smallest to the largest; at least two of the baseline and one of the candidate.

    Raises ValueError where seeds differ between arms or rungs, where there is one seed only, where a loss is not a
    finite number above zero, or where a rung without a candidate stands below one with.
    """

    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        if len(self.rungs) < 2:
            raise ValueError(f"a ladder of {len(self.rungs)} rungs: the baseline needs two or more")
        with_candidate = [rung.candidate is not None for rung in self.rungs]
        if not with_candidate[0] or with_candidate != sorted(with_candidate, reverse=True):
            raise ValueError("rungs without the candidate may only stand above those with it")
        arms = [arm for rung in self.rungs for arm in (rung.baseline, rung.candidate) if arm is not None]
        if len({frozenset(arm.losses) for arm in arms}) > 1 or len(arms[0].losses) < 2:
            raise ValueError("every arm needs the same two or more seeds on every rung")
        if not all(np.isfinite(loss) and loss > 0 for arm in arms for loss in arm.losses.values()):
            raise ValueError("every loss must be a finite number above zero")

    @cached_property
    def judged(self) -> tuple[Rung, ...]:
        """Those that have a candidate."""
        return tuple(rung for rung in self.rungs if rung.candidate is not None)

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(sorted(self.rungs[0].baseline.losses))

    def _candidates(self) -> list[Trained]:
        return [rung.candidate for rung in self.rungs if rung.candidate is not None]

    def arrays(self) -> Arrays:
        """Losses [1, J, S] and [1, G, S], and what tuning adds."""
        baselines, candidates = [rung.baseline for rung in self.rungs], self._candidates()
        losses = [
            np.array([[[arm.losses[seed] for seed in self.seeds] for arm in of]]) for of in (baselines, candidates)
        ]
        tuning = [np.array([[arm.tuning_variance for arm in of]]) for of in (baselines, candidates)]
        return Arrays(*losses, *tuning)

    def log_costs(self, axis: Axis) -> LogCosts | None:
        """None where it was not measured for every run, or where the baseline's does not grow from rung to rung."""
        found = []
        for of in ([rung.baseline for rung in self.rungs], self._candidates()):
            costs = [getattr(arm.cost, axis) for arm in of]
            if any(cost is None or cost <= 0 for cost in costs):
                return None
            found.append(np.log(np.array(costs, dtype=float)))
        return LogCosts(*found) if (np.diff(found[0]) > 0).all() else None
