"""The secondary criteria of a rule: each a number with an interval against a threshold, PASS, FAIL or OPEN."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from assay.analysis.gate.evidence import Evidence
from assay.analysis.gate.memory import MEMORY_KINDS, why_not_told
from assay.analysis.gate.rule import Criterion
from assay.analysis.scaling.trend import Trend
from assay.analysis.statistics import mean_interval
from assay.records import ArmColumn, MeasuredRun
from assay.records.gate import CriterionRecord

MOST_SEEDS = 1_000
State = Literal["PASS", "FAIL", "OPEN"]


class Bounds(NamedTuple):
    """A number and its interval; no ends where one run cannot tell."""

    value: float
    low: float | None
    high: float | None
    of: str
    """What the interval is over, in words."""
    seeds: int = 0
    """How many it is over; 0 where it is over none."""


def judge_criterion(
    criterion: Criterion, evidence: Evidence, candidate: str, trend: Trend | None, level: float
) -> CriterionRecord:
    """At the largest size that both arms have; `level` is that of each interval, so that all hold together."""
    if criterion.quantity == "trend":
        return _of_trend(criterion, trend)
    found = _bounds(criterion, evidence, candidate, level)
    why = None
    if criterion.quantity in MEMORY_KINDS:
        why = why_not_told(str(criterion.quantity), evidence.memory, candidate, evidence.baseline)
        found = None if why else found
    threshold = criterion.at_least if criterion.at_least is not None else criterion.at_most
    limit = f"{'at least' if criterion.at_least is not None else 'at most'} {threshold:g}"
    if found is None:
        what = criterion.column or criterion.quantity
        state: State = "OPEN"
        text = f"{criterion.name}: {why or f'{what} was not measured'}"
    else:
        state = state_of(found, criterion)
        ends = "" if found.low is None or found.high is None else f" ({found.low:.3g} to {found.high:.3g}{found.of})"
        text = f"{criterion.name}: {_compared(criterion)} {found.value:.3g}{ends}, asked {limit}"
    return CriterionRecord(
        name=criterion.name,
        state=state,
        required=criterion.required,
        value=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        threshold=float(threshold if threshold is not None else math.nan),
        text=text,
        closing="" if state != "OPEN" else _closing(found, criterion, why),
    )


def state_of(found: Bounds, criterion: Criterion) -> State:
    """PASS where the whole interval keeps the threshold, FAIL where the whole interval breaks it."""
    if found.low is None or found.high is None:
        return "OPEN"
    if criterion.at_least is not None:
        return "PASS" if found.low >= criterion.at_least else "FAIL" if found.high < criterion.at_least else "OPEN"
    most = criterion.at_most if criterion.at_most is not None else math.inf
    return "PASS" if found.high <= most else "FAIL" if found.low > most else "OPEN"


def _of_trend(criterion: Criterion, trend: Trend | None) -> CriterionRecord:
    """A trend that holds or grows passes, one that shrinks fails."""
    verdict = "NOT TOLD" if trend is None else trend.verdict
    state: State = "FAIL" if verdict == "SHRINKS" else "OPEN" if verdict == "NOT TOLD" else "PASS"
    return CriterionRecord(
        name=criterion.name,
        state=state,
        required=criterion.required,
        value=None if trend is None else trend.slope,
        low=None if trend is None else trend.low,
        high=None if trend is None else trend.high,
        threshold=0.0,
        text=f"{criterion.name}: {'not told, as one size cannot' if trend is None else trend.text()}",
        closing="more sizes, or more seeds, would tell it" if state == "OPEN" else "",
    )


def _bounds(criterion: Criterion, evidence: Evidence, candidate: str, level: float) -> Bounds | None:
    size = evidence.sizes[-1]
    ours, theirs = (evidence.runs.get((label, size), {}) for label in (candidate, evidence.baseline))
    if criterion.quantity == "diverged_runs":
        count = float(evidence.diverged(candidate))
        return Bounds(count, count, count, " runs")
    if criterion.quantity in MEMORY_KINDS:
        arms = evidence.memory.get(str(criterion.quantity), {})
        if candidate not in arms or evidence.baseline not in arms:
            return None
        return _over_seeds(criterion, arms[candidate].scores, arms[evidence.baseline].scores, level)
    of_ours, of_theirs = (_values(criterion, runs) for runs in (ours, theirs))
    if of_ours and of_theirs:
        return _over_seeds(criterion, of_ours, of_theirs, level)
    of_study = [_column(criterion, evidence.columns.get((label, size), ())) for label in (candidate, evidence.baseline)]
    a, b = of_study
    return None if a is None or b is None else _over_ranges(criterion, a, b)


def _values(criterion: Criterion, runs: Mapping[int, MeasuredRun]) -> dict[int, float]:
    """Seed -> the number that the criterion is about, of one arm."""
    found: dict[int, float] = {}
    for seed, run in runs.items():
        if criterion.quantity is not None:
            value = getattr(run.record, criterion.quantity)
        else:
            columns = [c for result in run.results.values() for c in result.columns if c.key == criterion.column]
            value = columns[0].value if columns else None
        if value is not None and math.isfinite(value):
            found[seed] = float(value)
    return found


def _over_seeds(
    criterion: Criterion, ours: Mapping[int, float], theirs: Mapping[int, float], level: float
) -> Bounds | None:
    """Student's t over seeds that both have, paired; of a ratio in logarithms."""
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    if criterion.compare == "ratio":
        if min(*ours.values(), *theirs.values()) <= 0:
            return None
        logs = mean_interval([math.log(ours[seed] / theirs[seed]) for seed in seeds], level)
        ends = [None if end is None else math.exp(end) for end in (logs.low, logs.high)]
        return Bounds(math.exp(logs.mean), ends[0], ends[1], f" over {len(seeds)} seeds", len(seeds))
    values = [ours[seed] - (theirs[seed] if criterion.compare == "difference" else 0.0) for seed in seeds]
    of = mean_interval(values, level)
    return Bounds(of.mean, of.low, of.high, f" over {len(seeds)} seeds", len(seeds))


def _over_ranges(criterion: Criterion, ours: ArmColumn, theirs: ArmColumn) -> Bounds | None:
    """What was measured of all arms by turns: the ends that their ranges allow, which is wider than an interval."""
    if ours.value is None or theirs.value is None:
        return None
    low, high = (ours.low or ours.value), (ours.high or ours.value)
    least, most = (theirs.low or theirs.value), (theirs.high or theirs.value)
    if criterion.compare == "ratio":
        if min(least, theirs.value) <= 0:
            return None
        return Bounds(ours.value / theirs.value, low / most, high / least, " by their ranges")
    if criterion.compare == "difference":
        return Bounds(ours.value - theirs.value, low - most, high - least, " by their ranges")
    return Bounds(ours.value, low, high, " by its range")


def _column(criterion: Criterion, columns: Sequence[ArmColumn]) -> ArmColumn | None:
    return next((column for column in columns if column.key == criterion.column), None)


def _compared(criterion: Criterion) -> str:
    return {"ratio": "candidate over baseline", "difference": "candidate less baseline", "value": "candidate"}[
        criterion.compare
    ]


def _closing(found: Bounds | None, criterion: Criterion, why: str | None) -> str:
    if found is None and criterion.quantity in MEMORY_KINDS:
        if why is not None and "floor" in why:
            return "a larger budget, whose memory runs are longer, or other sizes may leave the floor"
        return "a gate whose rule asks for it, or --memory, would measure it"
    if found is None and criterion.column == "long_context":
        return "a text whose held-out documents are longer than the context, or --memory, would measure it"
    if found is None:
        return "a measurement of it would close it: `--measure` beside the usual ones"
    if found.low is None or found.high is None:
        return "a second seed would give it an interval"
    if not found.seeds and "range" in found.of:
        return "another measurement of speed, on a quieter machine, would narrow it"
    if not found.seeds:
        return "more seeds would narrow it"
    needed = _seeds_needed(found, criterion)
    if needed is None:
        return f"no number of seeds up to {MOST_SEEDS:,} would tell it, as close to the threshold as it is"
    return f"some {needed} seeds, here {found.seeds}, would tell it if it is as seen"


def _seeds_needed(found: Bounds, criterion: Criterion) -> int | None:
    """As an interval narrows with the root of their number; None from more than MOST_SEEDS on."""
    threshold = criterion.at_least if criterion.at_least is not None else criterion.at_most
    assert threshold is not None
    assert found.low is not None
    assert found.high is not None
    ends: tuple[float, ...] = (found.value, threshold, found.low, found.high)
    if criterion.compare == "ratio":
        if min(ends) <= 0:
            return None
        ends = tuple(map(math.log, ends))
    value, limit, low, high = ends
    if value == limit:
        return None
    needed = math.ceil(found.seeds * ((high - low) / 2 / (value - limit)) ** 2)
    return None if needed > MOST_SEEDS else max(needed, found.seeds + 1)
