"""The stages of a gate for given sizes: which runs, in which order, at what cost. No stopwatch, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from assay.analysis.sanity import SanityLimits
from assay.analysis.wording import short
from assay.gating.asked import CONTROL, PLACEBO
from assay.gating.branches import own_tokens, smaller_budgets
from assay.gating.memory import memory_tokens
from assay.records.gate import MemoryKind, Stage, StageKind
from assay.training.config import TrainingConfig

TUNING_SEED = 10_000
"""Judged seeds are below it: a run that tuned an arm never judges it."""
PILOT_SEED = 20_000
PILOT_SEEDS = (4, 2)
"""At the two smallest sizes: the spread comes from the first, the slope from both."""
CHECKED_RATES = 3
BY_HEART_STEPS = 250
"""That learning a few tokens by heart takes, about, of the 400 that it may."""
OPENING_SECONDS = 1.5
"""Of a stage: its data are opened and its arms are sized."""
PAGE_SECONDS, PAGE_ALONE_SECONDS = 8.0, 3.0
"""Floors, the speed of all arms by turns, samples and the page of one judged stage, about; audits come on top. The
baseline alone has no turns."""
EXTENSIONS = {"tuning": 0.5, "check": 1.0}
"""How often a grid is extended by one rate for all arms, on average: the three rates of the check nearly always."""


class Cost(NamedTuple):
    """Of one run."""

    seconds: float
    flops: float


class Costs(Protocol):
    """What a run of `arm` at `size` takes that reads `tokens`, of the text or of a memory task."""

    def __call__(self, arm: str, size: int, tokens: int, task: MemoryKind | None = None, /) -> Cost: ...


@dataclass(frozen=True)
class Shape:
    """What a gate has beside its sizes."""

    baseline: str
    candidates: Sequence[str]
    placebo: bool
    seeds: int
    rates: Sequence[float]
    tokens_per_parameter: float
    batch_tokens: int
    workers: int
    beside_tokens: int = 0
    """Tokens that every judged run reads after training, of texts beside its own."""
    memory: Sequence[MemoryKind] = ()
    """Tasks that every arm is trained on at the smallest size beside the text."""
    audit_seconds: float = 3.0
    """Of one arm; each is audited twice in a judged stage, before training and after."""
    branching: Mapping[str | None, TrainingConfig] = field(default_factory=dict)
    """Arm -> its protocol, None -> the study's, where runs to smaller budgets branch from the judged ones."""

    @property
    def arms(self) -> list[str]:
        """Those that run at every size but the top one."""
        return [self.baseline, *self.candidates, *([PLACEBO] if self.placebo else [])]

    def tokens(self, size: int) -> int:
        """Of one run, in whole batches."""
        return max(1, round(size * self.tokens_per_parameter / self.batch_tokens)) * self.batch_tokens


def top_of(sizes: Sequence[int]) -> int:
    """The baseline's further size: as far above the largest as that is above the one below it."""
    return round(sizes[-1] * sizes[-1] / sizes[-2])


def lay_out(shape: Shape, sizes: Sequence[int], costs: Costs) -> list[Stage]:
    """All stages in the order in which they are carried out."""
    tuned = list(shape.arms)
    seeds = list(range(shape.seeds))

    def stage(kind: StageKind, size: int, arms: Sequence[str], of: Sequence[int], rates: Sequence[float] = ()) -> Stage:
        tokens = shape.tokens(size)
        if kind == "control":
            tokens = shape.tokens(size // 2)
        each = [costs(shape.baseline if arm in (PLACEBO, CONTROL) else arm, size, tokens) for arm in arms]
        tries = CHECKED_RATES if kind == "check" else max(1, len(rates))
        is_judged = kind in ("judged", "control")
        # Reading takes a forward pass, a third of a training step.
        also = shape.beside_tokens // 3 if is_judged else 0
        timed = [costs(shape.baseline if arm in (PLACEBO, CONTROL) else arm, size, tokens + also) for arm in arms]
        runs = [cost.seconds for cost in timed for _ in range(tries * len(of))]
        wider = EXTENSIONS.get(kind, 0.0)
        after = OPENING_SECONDS + wider * (OPENING_SECONDS + makespan([cost.seconds for cost in each], shape.workers))
        if is_judged:
            after += (PAGE_SECONDS if len(arms) > 1 else PAGE_ALONE_SECONDS) + 2 * shape.audit_seconds * len(arms)
        return Stage(
            name=f"{kind}-{short(size)}",
            kind=kind,
            size=size,
            tokens=tokens,
            budgets=smaller_budgets(list(shape.branching.values()), tokens) if kind == "judged" else [],
            arms=list(arms),
            rates=list(rates),
            tries=tries,
            seeds=list(of),
            flops=sum(cost.flops for cost in each) * (tries * len(of) + wider),
            seconds=makespan(runs, shape.workers) + after,
        )

    first, second = sizes[0], sizes[1]
    pilots = [
        stage("pilot", size, [shape.baseline], range(PILOT_SEED, PILOT_SEED + count))
        for size, count in zip((first, second), PILOT_SEEDS, strict=True)
    ]
    found = [stage("tuning", first, tuned, [TUNING_SEED], shape.rates), stage("check", second, tuned, [TUNING_SEED])]
    judged = []
    for size in sizes:
        runs = stage("judged", size, shape.arms, seeds)
        judged += [_sanity(shape, size, costs), runs, *_branches(shape, runs, costs)]
    top = stage("judged", top_of(sizes), [shape.baseline], seeds)
    judged += [top, *_branches(shape, top, costs)]
    controls = [stage("control", size, [CONTROL], seeds) for size in sizes] if shape.placebo else []
    memory = [_memory(shape, kind, sizes, costs) for kind in shape.memory]
    return [*pilots, *found, *judged, *controls, *memory]


def _branches(shape: Shape, judged: Stage, costs: Costs) -> list[Stage]:
    """The smaller budgets of judged runs, one after the other: what each run reads after it left the longer one."""
    if not judged.budgets:
        return []
    known = {arm: shape.baseline if arm == PLACEBO else arm for arm in judged.arms}
    each = [
        [costs(of, judged.size, own_tokens(shape.branching[of], budget)) for of in known.values()]
        for budget in judged.budgets
    ]
    seeds = len(judged.seeds)
    return [
        Stage(
            name=judged.name.replace("judged", "branches", 1),
            kind="branches",
            size=judged.size,
            tokens=judged.budgets[-1],
            budgets=judged.budgets,
            arms=judged.arms,
            tries=len(judged.budgets),
            seeds=judged.seeds,
            flops=seeds * sum(cost.flops for of in each for cost in of),
            seconds=sum(OPENING_SECONDS + makespan([one.seconds for one in of] * seeds, shape.workers) for of in each),
        )
    ]


def _memory(shape: Shape, kind: MemoryKind, sizes: Sequence[int], costs: Costs) -> Stage:
    """A task that memory solves, at the smallest size, with the seeds that are judged."""
    tokens = memory_tokens(kind, shape.tokens(sizes[-1]))
    arms = [shape.baseline, *shape.candidates]
    each = [costs(arm, sizes[0], tokens, kind) for arm in arms]
    runs = [cost.seconds for cost in each for _ in range(shape.seeds)]
    return Stage(
        name=f"{kind}-{short(sizes[0])}",
        kind=kind,
        size=sizes[0],
        tokens=tokens,
        arms=arms,
        seeds=list(range(shape.seeds)),
        flops=sum(cost.flops for cost in each) * shape.seeds,
        seconds=OPENING_SECONDS + makespan(runs, shape.workers),
    )


def _sanity(shape: Shape, size: int, costs: Costs) -> Stage:
    """Short trainings of every candidate and the baseline beside it, one after the other."""
    limits = SanityLimits()
    part = max(limits.least_steps, round(limits.share * shape.tokens(size) / shape.batch_tokens)) * shape.batch_tokens
    tokens = part + BY_HEART_STEPS * limits.overfit_tokens
    each = [costs(arm, size, tokens) for arm in shape.candidates for arm in (arm, shape.baseline)]
    return Stage(
        name=f"sanity-{short(size)}",
        kind="sanity",
        size=size,
        tokens=tokens,
        arms=list(shape.candidates),
        tries=2,
        seeds=[0],
        flops=sum(cost.flops for cost in each),
        seconds=OPENING_SECONDS + sum(cost.seconds for cost in each),
    )


def makespan(seconds: Sequence[float], workers: int) -> float:
    """How long `workers` take for runs of these lengths, the longest first."""
    ends = [0.0] * max(1, workers)
    for one in sorted(seconds, reverse=True):
        ends[ends.index(min(ends))] += one
    return max(ends)


def total(stages: Sequence[Stage]) -> Cost:
    """Of all of them."""
    return Cost(sum(stage.seconds for stage in stages), sum(stage.flops for stage in stages))


def by_name(stages: Sequence[Stage]) -> Mapping[str, Stage]:
    """Each under the name of its folder."""
    return {stage.name: stage for stage in stages}
