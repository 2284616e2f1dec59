"""What a gate leaves: plan.json, written before its first judged step, and gate.json, its verdict."""

import hashlib
import json
from typing import Any, ClassVar, Literal

from assay.records.study import Interval
from assay.records.versioned import Record, Versioned

MemoryKind = Literal["recall", "statefulness"]
StageKind = Literal["pilot", "tuning", "check", "sanity", "judged", "branches", "control"] | MemoryKind


class Timing(Record):
    """How fast short runs of one arm at one size went, as many at a time as in the gate."""

    arm: str
    size: int
    task: MemoryKind | None = None
    """The memory task that it was trained on; None: the gate's text."""
    seconds_per_token: float
    """Of training, on one worker."""
    start_seconds: float
    """What a run takes beside its training steps: the process, the model, validation, measuring."""
    peak_memory_bytes: int | None


class Timings(Versioned):
    """timings.json: what was timed before the plan and the sizes it led to, so that nothing is timed twice."""

    version: ClassVar[int] = 1
    asked: str
    """`GateRequest.identity` of what was asked."""
    sizes: list[int]
    timings: list[Timing]


class Stage(Record):
    """Runs of a gate that belong together: a purpose, one size, some arms, rates and seeds."""

    name: str
    """Of its folder."""
    kind: StageKind
    size: int
    tokens: int
    """That each run reads; of branches the most of their budgets."""
    budgets: list[int] = []
    """Smaller ones in tokens, where the schedule is `wsd`: whose runs branch from these, or which these are."""
    arms: list[str]
    rates: list[float] = []
    """Learning rates of the grid; empty where each arm has the one that tuning gave it."""
    tries: int = 1
    """Rates that each arm runs with: those of the grid, or the carried one and its neighbours; of branches budgets."""
    seeds: list[int]
    flops: float
    seconds: float
    """Predicted, with as many runs at a time as there are workers."""

    @property
    def runs(self) -> int:
        """How many it has."""
        return len(self.arms) * self.tries * len(self.seeds)


class Noise(Record):
    """The spread of one run's loss over seeds."""

    nats: float
    """Standard deviation."""
    degrees: int
    """Of freedom that it was estimated with."""
    source: str
    """In words."""


class GatePlan(Versioned):
    """plan.json: what will be run and how it will be judged, fixed before the first judged step."""

    version: ClassVar[int] = 1
    hypothesis: str
    baseline: str
    candidates: list[str]
    unsound: dict[str, str] = {}
    """Candidates that an audit found to cheat before anything was trained, and what it found: NO-GO at once."""
    placebo: list[str] = []
    """Labels of arms that are the baseline again, and must come out UNDECIDED."""
    control: str | None = None
    """The label of the baseline on half of the tokens, which must come out worse."""
    rule: dict[str, Any]
    asked: str
    """A hash of the request without its rule."""
    config: dict[str, Any]
    """The protocol of all its runs, as a study's configuration."""
    sizes: list[int]
    """Of all arms, ascending."""
    top_size: int
    """One more of the baseline alone, so that its loss is known on both sides of the candidates'."""
    tokens_per_parameter: float
    rates: list[float]
    """The grid of learning rates at the smallest size."""
    stages: list[Stage]
    timings: list[Timing]
    noise: Noise
    slope_nats: float | None
    """By how much the baseline's loss is taken to fall for e times the compute; None where it is not known yet."""
    detectable_nats: float | None
    """At the largest size, in a share of 0.8 of such gates."""
    detectable_gain: float | None
    seconds: float
    """Predicted, of all stages and what comes after them."""
    flops: float
    peak_memory_bytes: int | None
    """Predicted, of all workers together."""
    workers: int
    inference: str
    """The measurement of reading and generating at the largest size."""
    further: list[str] = []
    """Other measurements that the rule asks of the runs at the largest size."""
    machine: dict[str, str]
    written: str
    """Date and time, ISO 8601, UTC."""
    digest: str = ""
    """SHA-256 of all else."""

    def digest_now(self) -> str:
        """What `digest` is of a plan that nobody edited; fields that the file it was read from lacks are no part."""
        content = json.dumps(self.model_dump(mode="json", exclude={"digest"}, exclude_unset=True), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def sealed(self) -> "GatePlan":
        """The same with its digest, which is over every field, as its file has every field."""
        whole = type(self).model_validate(self.model_dump(mode="json"))
        return whole.model_copy(update={"digest": whole.digest_now()})


class Beside(Record):
    """A number of one arm at one size that is shown beside its loss, in `unit`; lower is better."""

    name: str
    unit: str
    over_seeds: Interval
    against_baseline: Interval | None
    """The difference from the baseline's, paired by seed; None for the baseline itself, and where no seed is shared."""


class AtBudget(Record):
    """One arm at one size and a smaller budget, whose runs branched from the judged ones."""

    tokens: int
    losses: dict[int, float]
    """Seed -> nats per token on the test split."""
    diverged: int


class Arm(Record):
    """One arm at one size."""

    label: str
    size: int
    rate: float | None
    rate_text: str
    """How it was found, in words."""
    losses: dict[int, float]
    """Seed -> nats per token on the test split."""
    diverged: int
    flops: float
    parameters: int
    tokens: int
    seconds: float | None
    """Of training one run."""
    state_bytes: int
    peak_memory_bytes: int | None
    beside: list[Beside] = []
    """Tokens that can be looked up, and several texts, where they were measured."""
    budgets: list[AtBudget] = []
    """Under `wsd`, ascending."""


class GainRecord(Record):
    """A compute-equivalent gain with its interval; a missing end is no bound."""

    size: int
    per: str
    factor: float | None
    low: float | None
    high: float | None
    extrapolated: str | None
    level: float
    text: str


class CriterionRecord(Record):
    """One criterion and what became of it."""

    name: str
    state: Literal["PASS", "FAIL", "OPEN"]
    required: bool
    value: float | None
    low: float | None
    high: float | None
    threshold: float
    text: str
    closing: str = ""
    """Of an OPEN one: which further runs would close it, at what cost."""


class CandidateVerdict(Record):
    """What the gate says of one candidate."""

    label: str
    role: Literal["candidate", "placebo", "control"]
    verdict: Literal["GO", "NO-GO", "UNDECIDED"]
    sentence: str
    reasons: list[str]
    gains: list[GainRecord] = []
    trend: str = ""
    criteria: list[CriterionRecord] = []
    closing: str = ""
    marks: list[dict[str, Any]] = []
    """Of a rule on point estimates: metric by metric."""
    metrics: dict[str, float | None] = {}
    unsound: str | None = None


class GateRecord(Versioned):
    """gate.json: the verdicts, and what they rest on."""

    version: ClassVar[int] = 1
    verdict: Literal["GO", "NO-GO", "UNDECIDED"]
    """Of the candidates together: GO where any is, NO-GO where all are."""
    headline: list[str]
    baseline: str
    rule: dict[str, Any]
    verdicts: list[CandidateVerdict]
    arms: list[Arm]
    sanity: list[str] = []
    """What the short trainings before each size said, where they failed."""
    checks: int = 0
    """How many checks they made; older records do not say."""
    power_laws: list[str] = []
    prediction: list[str] = []
    """What the plan predicted and what came: time, memory, noise."""
    changed: list[str] = []
    """What was changed after the plan was written."""
    plan_digest: str | None
    concluded: str
