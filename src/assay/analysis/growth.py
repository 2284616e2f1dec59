"""How a cost grows with the context: the exponent of a power law, and where the costs of two arms cross."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.special import stdtrit

from assay.analysis.statistics import LEVEL
from assay.records.inference import ArmInference, AtContext, Crossover, Growth, Quantity, Timing

QUANTITIES: tuple[Quantity, ...] = ("prefill", "step", "memory")
Costs = Mapping[int, Timing]
"""Context -> what it costs."""


def fit_growth(costs: Mapping[int, float], level: float = LEVEL) -> Growth | None:
    """cost ~ context^exponent by least squares on logarithms; None with fewer than two contexts, or a cost of zero.

    The interval is Student's, of the slope, with n - 2 degrees of freedom; there is none with two contexts. It holds
    what the points depart from one power, and not only noise: a cost that bends has a wide one.
    """
    if len(costs) < 2 or min(costs.values()) <= 0:
        return None
    ordered = sorted(costs.items())
    x, y = (np.log(np.array(values, dtype=np.float64)) for values in zip(*ordered, strict=True))
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    degrees = len(x) - 2
    half = None
    if degrees > 0:
        residuals = y - y.mean() - slope * (x - x.mean())
        half = float(stdtrit(degrees, (1 + level) / 2)) * math.sqrt(float((residuals**2).sum()) / degrees / spread)
    return Growth(
        exponent=slope,
        low=None if half is None else slope - half,
        high=None if half is None else slope + half,
        contexts=len(x),
        last_doubling=float((y[-1] - y[-2]) / (x[-1] - x[-2])),
    )


def costs_of(points: Sequence[AtContext], quantity: Quantity) -> dict[int, Timing]:
    """Context -> cost, of the contexts that have one; bytes are a range of one value."""
    found: dict[int, Timing] = {}
    for point in points:
        cost = _cost(point, quantity)
        if cost is not None:
            found[point.context] = cost
    return found


def crossovers(arms: Mapping[str, ArmInference]) -> Iterator[Crossover]:
    """For each quantity and pair of arms with two contexts in common, which takes less where."""
    for quantity in QUANTITIES:
        costs = {label: costs_of(arm.contexts, quantity) for label, arm in arms.items()}
        for a, b in itertools.combinations(arms, 2):
            crossing = crossover(quantity, (a, b), costs[a], costs[b])
            if crossing is not None:
                yield crossing


def crossover(quantity: Quantity, arms: tuple[str, str], one: Costs, other: Costs) -> Crossover | None:
    """Where the costs of two arms cross; None with fewer than two contexts in common.

    At either end an arm takes less where its whole range lies below the other's. Where the ends disagree, the arms
    cross between the last two contexts whose medians do, on straight lines between logarithms. The crossing is certain
    to within `low` and `high`: the ranges of the two, joined in the same way, first touch and last part there.
    """
    contexts = sorted(one.keys() & other.keys())
    if len(contexts) < 2:
        return None
    first, last = (_less(arms, one[at], other[at]) for at in (contexts[0], contexts[-1]))
    crossed = first is not None and last is not None and first != last
    low, at, high = (None, None, None)
    if crossed:
        low, at, high = _crossing(contexts, *((one, other) if first == arms[0] else (other, one)))
    return Crossover(
        quantity=quantity,
        less_at_first=first,
        less_at_last=last,
        arms=arms,
        contexts=(contexts[0], contexts[-1]),
        context=at,
        low=low,
        high=high,
    )


def _cost(point: AtContext, quantity: Quantity) -> Timing | None:
    if quantity == "memory":
        size = point.working_bytes
        return None if size is None else Timing(median=size, low=size, high=size, repeats=1)
    return point.prefill if quantity == "prefill" else point.step


def _less(arms: tuple[str, str], one: Timing, other: Timing) -> str | None:
    if one.high < other.low:
        return arms[0]
    return arms[1] if other.high < one.low else None


def _crossing(contexts: Sequence[int], at_first: Costs, at_last: Costs) -> tuple[float, float, float]:
    """Where the ranges first touch, where the medians cross for the last time, and where the ranges last part.

    `at_first` takes less at the first context, `at_last` at the last.
    """
    pairs = [(at_first[at], at_last[at]) for at in contexts]
    touching = [math.log(one.high / other.low) for one, other in pairs]
    medians = [math.log(one.median / other.median) for one, other in pairs]
    parting = [math.log(one.low / other.high) for one, other in pairs]
    touches = next(at for at in range(len(pairs) - 1) if touching[at + 1] >= 0)
    crosses, parts = (max(at for at in range(len(pairs) - 1) if of[at] <= 0) for of in (medians, parting))
    return (
        _zero(contexts, touching, touches),
        _zero(contexts, medians, crosses),
        _zero(contexts, parting, parts),
    )


def _zero(contexts: Sequence[int], gaps: Sequence[float], at: int) -> float:
    """The context at which the gap is zero, on the straight line over log context from number `at` to the next."""
    share = gaps[at] / (gaps[at] - gaps[at + 1])
    return math.exp((1 - share) * math.log(contexts[at]) + share * math.log(contexts[at + 1]))
