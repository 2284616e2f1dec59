"""The rule of a gate: what decides, and by which thresholds. A YAML file; three come along."""

from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from assay.analysis.statistics import LEVEL
from assay.config import Config, digest_of, read_yaml
from assay.errors import RequestError
from assay.registry import suggestion

DEFAULT_RULE = "assay"
Word = Literal["GO", "NO-GO", "UNDECIDED"]
Per = Literal["flops", "parameters", "seconds", "state_bytes"]
QUANTITIES = ("diverged_runs", "trend", "state_bytes", "peak_memory_bytes", "recall", "statefulness")
"""The last two are scores of the gate's memory stages."""
METRICS = (
    "loss_ratio",
    "statefulness_ratio",
    "statefulness_difference",
    "long_context_nats",
    "speed_ratio",
    "memory_ratio",
    "spike_ratio",
    "loss_over_size_below",
    "scaling_exponent",
)
"""What a rule on point estimates can ask, docs/gate.md says how each is computed."""


class Bounds(Config):
    """One or more limits of a number; all must hold."""

    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """Those that are given."""
        found = {name: getattr(self, name) for name in ("above", "below", "at_least", "at_most")}
        return {name: limit for name, limit in found.items() if limit is not None}

    def hold(self, value: float) -> bool:
        """Whether `value` keeps them."""
        tests = {
            "above": lambda limit: value > limit,
            "below": lambda limit: value < limit,
            "at_least": lambda limit: value >= limit,
            "at_most": lambda limit: value <= limit,
        }
        return all(tests[name](limit) for name, limit in self.limits.items())

    def in_words(self) -> str:
        """ "above 1.3"."""
        return " and ".join(f"{name.replace('_', ' ')} {limit:g}" for name, limit in self.limits.items())

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.limits:
            raise ValueError("a limit is missing; above, below, at_least or at_most would do")
        return self


def _known_metric(name: str) -> str:
    """The name; a ValueError where no metric has it, as a rule would wait for it for ever."""
    if name not in METRICS:
        raise ValueError(f"metric {name!r}: unknown; {suggestion(name, list(METRICS))}")
    return name


class Primary(Config):
    """The gain at the largest size, whose interval decides."""

    per: Per = "flops"
    worthwhile: float = Field(1.0, gt=0)
    """The least gain that is worth it: GO where the whole interval lies above, NO-GO where it lies below."""


class Criterion(Config):
    """A further question to the same runs: PASS, FAIL or OPEN, by an interval against a threshold."""

    name: str
    column: str | None = None
    """The key of a column of a measurement."""
    quantity: str | None = None
    """Or one of QUANTITIES."""
    compare: Literal["ratio", "difference", "value"] = "value"
    """Candidate over baseline, candidate minus baseline, or the candidate alone."""
    better: Literal["higher", "lower"] | None = None
    at_least: float | None = None
    at_most: float | None = None
    required: bool = False
    """Whether GO needs it: a FAIL makes NO-GO of it, OPEN makes UNDECIDED."""

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"secondary {self.name}: one of at_least and at_most is needed")
        if (self.column is None) == (self.quantity is None):
            raise ValueError(f"secondary {self.name}: one of column and quantity is needed")
        if self.quantity is not None and self.quantity not in QUANTITIES:
            raise ValueError(f"secondary {self.name}: quantity {self.quantity!r}; {', '.join(QUANTITIES)} would do")
        return self


class IntervalRule(Config):
    """Decides by intervals that hold together within one error budget."""

    section: ClassVar[str] = "rule"

    name: str
    kind: Literal["intervals"]
    says: str = ""
    caveats: list[str] = []
    level: float = Field(LEVEL, gt=0.5, le=0.999)
    """Of the gain's interval; all secondary criteria together have one minus it as their share of wrong words."""
    primary: Primary = Primary()
    trend_margin: float = Field(0.05, gt=0)
    """HOLDS: the exponent of the gain in compute lies within plus or minus this."""
    secondary: list[Criterion] = []

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [criterion.name for criterion in self.secondary]
        if len(set(names)) < len(names):
            raise ValueError("secondary: two criteria have one name")
        return self


class Condition(Bounds):
    """A limit of one metric, or how many of several keep `above`."""

    metric: str | None = None
    count: list[str] = []

    @model_validator(mode="after")
    def _known(self) -> Self:
        if (self.metric is None) == (not self.count):
            raise ValueError("one of metric and count is needed")
        for name in [self.metric, *self.count]:
            if name is not None:
                _known_metric(name)
        if self.count and (self.above is None or self.at_least is None):
            raise ValueError("count: needs above (of each metric) and at_least (of how many)")
        return self


class Stop(Condition):
    """A red line."""

    reason: str


class Requirement(Condition):
    """What a document asks of a pass, beside its decision."""

    name: str


class Clause(Config):
    """A verdict where all conditions hold; the first such clause decides."""

    when: list[Condition] = Field(min_length=1)
    verdict: Word
    reason: str


class Otherwise(Config):
    """Where no clause holds."""

    verdict: Word
    reason: str


class Grade(Config):
    """What a metric must reach for each of the three marks."""

    metric: str
    name: str
    good_enough: Bounds
    promising: Bounds
    excellent: Bounds

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        return _known_metric(metric)


class Graduation(Config):
    """How many marks are enough: so many excellent ones, or so many that are promising or better."""

    excellent: int = Field(gt=0)
    promising: int = Field(gt=0)


class PointRule(Config):
    """Decides by point estimates, as documents do; shown beside its caveats."""

    section: ClassVar[str] = "rule"

    name: str
    kind: Literal["points"]
    says: str = ""
    caveats: list[str] = []
    stop: list[Stop] = []
    fail_triggers: list[Stop] = []
    """A document's list of them, shown beside the verdict; they decide nothing."""
    pass_requires: list[Requirement] = []
    """The same of what it asks of a pass."""
    grades: list[Grade] = []
    graduation: Graduation | None = None
    decide: list[Clause] = Field(min_length=1)
    otherwise: Otherwise


GateRule = IntervalRule | PointRule
_KINDS: dict[str, type[IntervalRule] | type[PointRule]] = {"intervals": IntervalRule, "points": PointRule}


def rule_names() -> list[str]:
    """Of the rules that come along."""
    folder = files("assay.analysis.gate.rules")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_rule(given: str) -> GateRule:
    """The rule of that name, or in that YAML file; what is wrong in it is a RequestError of one line."""
    if given in rule_names():
        path = Path(str(files("assay.analysis.gate.rules").joinpath(f"{given}.yaml")))
    elif given.endswith((".yaml", ".yml")) or "/" in given:
        path = Path(given)
    else:
        raise RequestError(f"--rule {given}: {suggestion(given, rule_names())}; or a YAML file")
    return parse_rule(read_yaml(path, "--rule"), f"--rule {given}")


def parse_rule(values: dict[str, Any], given: str = "rule") -> GateRule:
    """The rule that `values` state; `given` is what messages begin with."""
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestError(f"{given}: kind {kind!r} given; intervals or points would do")
    try:
        return _KINDS[kind].parse(values)
    except RequestError as error:
        raise RequestError(f"{given}: {str(error).removeprefix('rule.')}") from None


def rule_digest(rule: GateRule) -> str:
    """SHA-256 of all that it says."""
    return digest_of(rule.model_dump(mode="json"))
