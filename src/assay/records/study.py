"""What a study leaves in study.json: arms over their seeds, pairs, audits, floors, and whether it may be ranked."""

from typing import Any, ClassVar, Literal

from assay.records.embedded import columns_of_arm, measured_by
from assay.records.likelihood import Split
from assay.records.measurement import Code, Column, Group, Scope
from assay.records.run import Match, Parameters
from assay.records.versioned import Record, Versioned


class Interval(Record):
    """A mean over seeds with its Student t interval at the study's level; no ends with fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None


class TestScores(Record):
    """Scores of one arm over its seeds, on one split."""

    nats_per_token: Interval
    perplexity: Interval
    bits_per_byte: Interval | None


class ArmAudit(Record):
    """What the audit of one arm's model said, on the weights of one seed."""

    label: str
    seed: int
    moment: Literal["before training", "after training"]
    sound: bool
    summary: str
    """One line: how far it was searched, or what failed and where."""
    findings: list[dict[str, Any]]


MEASURED_INSIDE = (
    "speed",
    "growth_with_embedding",
    "growth_without_embedding",
    "signal_verdict",
    "output_verdict",
    "train_tokens_per_second",
)
"""What an arm held in versions 1 and 2: columns of measurements now, but for training's own speed, which is none."""


class ArmColumn(Column):
    """A column of a measurement, of one arm over its seeds: the mean, with an interval or a range; texts counted."""

    measurement: str
    seeds: int
    """How many runs it is of; 0 where the measurement is of the study."""


class MeasuredBy(Record):
    """A measurement whose columns the arms have: what it asked, and by which code."""

    name: str
    version: int
    question: str
    unit: str
    group: Group
    scope: Scope
    code: Code
    sentences: list[str] = []
    """Of a run they begin with its label and seed."""


class Arm(Record):
    """One arm of a study over all its seeds."""

    label: str
    """Its name; two arms of one architecture are told apart by it."""
    architecture: str
    replicate: int = 0
    group: str = ""
    """The arm that was asked for, of which this is one point of a grid; its own label without one."""
    size: int | None = None
    """The size that was asked for it; arms of other sizes are not ranked against it."""
    learning_rate: float | None = None
    selected: bool | None = None
    """Whether it is its group's choice on the validation split; None where nothing was chosen."""
    validation_nats: float | None = None
    """Mean nats per token on the validation split at the end of training: what the choice goes by."""
    seeds: list[int]
    diverged: int
    """How many of the seeds diverged; an arm with any is not ranked."""
    unsound: str | None = None
    """What an audit found, in one line; an arm that cheats is not ranked."""
    rank: int | None
    parameters: Parameters
    flops_per_token: int
    """Forward."""
    state_bytes: int
    test: TestScores | None
    validation: TestScores | None = None
    """Where the study is scored on the validation split (`evaluation.split`)."""
    peak_memory_bytes: int | None
    data_chain: str
    """One hash over the chains of the arm's seeds, in order."""
    columns: list[ArmColumn] = []
    """Of all measurements but the likelihood, whose scores stand above."""

    @property
    def scores(self) -> TestScores | None:
        """On the split that the study is scored on."""
        return self.test or self.validation


class Pair(Record):
    """Two arms, by label, over the seeds they share: mean difference a - b in nats per token, paired."""

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    """The ends of the interval over seeds, None where seeds cannot tell."""
    level: float | None
    """Of the interval: all intervals of the study hold together with it (before version 4 that of a step of Holm's)."""
    p_value: float | None
    """The share of studies of arms alike in which some pair would be so far apart, None where looks were planned."""
    resolved: bool
    """Arms of this size are ranked and the interval over seeds excludes zero."""
    text_low: float | None = None
    text_high: float | None = None
    """For other seeds and other texts of the same kind, all pairs together; None where there is no such interval."""
    detectable: float | None = None
    """The difference that would be resolved in a share `rule.power` of such studies, of a pair that is not resolved."""
    seeds_needed: list[int] | None = None
    """From how many to how many seeds a new study needs to resolve a difference as it was seen."""
    n_seeds: int
    nominal: str | None = None
    """What was added after a look, where the pair rests on it: its level is then nominal."""
    sentence: str


class Ngram(Record):
    """Which n-gram model the floor `ngram` is: interpolated modified Kneser-Ney, of the order best on validation."""

    order: int
    """As many tokens as it looks at, the predicted one among them."""
    discounts: list[tuple[float, float, float]]
    """The weights: what is taken from n-grams counted once, twice and more often, for 1 ... `order` tokens."""
    validation_nats: list[float]
    """Nats per validation token under the orders 1, 2, ... that were tried."""
    scored_nats: list[float]
    """The same of the targets that the arms are scored on, by which nothing was chosen."""


class Floor(Record):
    """A model without a network, trained on the same tokens and scored on the same targets."""

    nats_per_token: float
    perplexity: float
    bits_per_byte: float | None
    ngram: Ngram | None = None


class Addition(Record):
    """What was added to a study that had begun."""

    when: str
    """Date and time, ISO 8601, UTC."""
    looks: int
    """How many times results had been shown before."""
    arms: list[str] = []
    seeds: list[int] = []
    measurements: list[str] = []


class StudyRecord(Versioned):
    """study.json: what was asked, what came out, and whether it may be ranked."""

    version: ClassVar[int] = 4
    headline: list[str]
    """Sentences that must be read before the table."""
    ranked: bool
    """Whether every size of it is; arms of a size that is have their ranks either way."""
    not_ranked_because: str | None
    protocol: dict[str, Any]
    arms: list[Arm]
    """Size by size; in each the ranked ones, best first, then the others, points that were not selected last."""
    measured: list[MeasuredBy] = []
    """All measurements, the likelihood too."""
    audits: list[ArmAudit] = []
    pairs: list[Pair]
    floors: dict[str, Floor]
    """Of a text `unigram` and `ngram`, in older records `unigram` and `trigram`; of a task `chance`."""
    tokens_per_parameter: float
    """Of the largest size."""
    chains_equal: bool
    matched_within: float
    """The largest relative deviation of the matched quantity from its mean over the arms of one size."""
    corpus: dict[str, Any]
    environment: dict[str, str]
    added: list[Addition] = []
    """What was added when, first to last."""
    split: Split = "test"
    """What the arms are scored on."""
    level: float = 0.95
    """Of the interval of each single arm, and of those of all pairs together."""
    correction: Literal["simultaneous", "holm", "none"] = "simultaneous"
    """How several pairs were allowed for; the last two in records before version 4."""
    match: Match | None = None
    """What a size of an arm counts; None where sizes were given by hand, or in a version-1 study."""
    report: str | None
    concluded: str = ""
    """Date, ISO 8601, UTC; empty in older records."""

    @classmethod
    def upgraded(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fields of today of an older version.

        Version 1 keyed everything by architecture; 1 and 2 had a field of an arm for each thing measured; 3 decided
        pairs by Holm's steps, and its interval over documents held the seeds fixed, which no field of today says.
        """
        pairs = [
            {name: value for name, value in pair.items() if name not in ("bootstrap_low", "bootstrap_high")}
            for pair in values["pairs"]
        ]
        values = {**values, "pairs": pairs, "correction": values.get("correction", "holm")}
        if values["schema_version"] == 3:
            return values
        arms = [
            {name: value for name, value in arm.items() if name not in MEASURED_INSIDE}
            | {"label": arm.get("label", arm["architecture"]), "group": arm.get("group", arm["architecture"])}
            | {"columns": columns_of_arm(arm)}
            for arm in values["arms"]
        ]
        audits = [
            {name: value for name, value in audit.items() if name != "architecture"}
            | {"label": audit.get("label", audit.get("architecture"))}
            for audit in values.get("audits", [])
        ]
        return {**values, "arms": arms, "audits": audits, "measured": measured_by(values)}
