"""Typed, versioned results with provenance: what a run leaves in record.json and a study in study.json.

Nats are per predicted token unless a name says otherwise. Every list over layers starts with the embedding.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any, Literal, Self

import pydantic

from assay.errors import RequestError

SCHEMA_VERSION = 1


Match = Literal["total", "non-embedding", "flops", "state"]
"""What arms are made equal in: parameters, parameters without tables, FLOPs per token, bytes of state."""


class Record(pydantic.BaseModel):
    """A frozen result; unknown fields are an error, so that an old reader never guesses."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Versioned(Record):
    """A record that is a file of its own; a schema version it does not know is refused."""

    schema_version: int = SCHEMA_VERSION

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record at `path`; a file that is missing, broken or of another version is a RequestError."""
        try:
            content = path.read_bytes()
            values = json.loads(content)
        except OSError as error:
            raise RequestError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise RequestError(f"{path}: not JSON ({error})") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:  # before anything else: another version has other fields
            raise RequestError(f"{path}: schema version {version}; this assay reads {SCHEMA_VERSION}")
        try:
            return cls.model_validate_json(content)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RequestError(f"{path}: not a {cls.__name__} this assay can read ({where}: {first['msg']})") from None

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        write_whole(path, self.content())

    def content(self) -> bytes:
        """What `write` writes: the same record gives the same bytes."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Parameters(Record):
    """Parameter counts; a tied head is counted once, under `embedding` (token and position tables)."""

    total: int
    embedding: int
    non_embedding: int
    groups: dict[str, int] = {}


class Flops(Record):
    """FLOPs per token of the documented algorithm: forward, and a training step (three times forward).

    `executed` are those of the form that ran, forward over one window, in matrix products, which are what torch's
    counter counts; `uncounted` names what it does not. None where a layer does not declare them.
    """

    forward: int
    training: int
    executed: float | None = None
    uncounted: dict[str, float] = {}


class Likelihood(Record):
    """Scores on one split. The per-document sums allow a bootstrap over documents without the model."""

    nats_per_token: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int
    bytes: int | None
    document_nats: list[float]
    document_tokens: list[int]
    document_bytes: list[int]
    nats_by_position: list[float]
    """Mean nats in each of equally long stretches of the context, first to last."""
    position_edges: list[int]
    """len(nats_by_position) + 1 positions that bound the stretches."""
    recall_nats: float | None
    """Mean nats of tokens that complete a bigram already seen in the context (Arora et al. 2023)."""
    recall_tokens: int
    other_nats: float | None


class SignalProfile(Record):
    """The residual stream after the embedding and after each block, over all positions and channels."""

    std: list[float]
    rms: list[float]
    growth_with_embedding: float
    """Last std over the embedding's."""
    growth_without_embedding: float
    """Last std over block 0's."""
    verdict_with_embedding: Literal["AMPLIFIER", "DAMPER", "NEUTRAL"]
    verdict_without_embedding: Literal["AMPLIFIER", "DAMPER", "NEUTRAL"]


class OutputHealth(Record):
    """What the output distribution looks like on held-out text."""

    logit_low: float
    logit_high: float
    max_probability: float
    share_above_099: float
    entropy_nats: float
    entropy_share: float
    """Mean entropy over ln V."""
    loss_minus_entropy_nats: float
    verdict: Literal["HEALTHY", "OVERCONFIDENT"]
    document_000_verdict: str


class CurvePoint(Record):
    """One point of a loss curve."""

    step: int
    tokens: int
    nats_per_token: float


class RunRecord(Versioned):
    """All that a study needs to know of one finished or diverged run."""

    architecture: str
    seed: int
    status: Literal["finished", "diverged"]
    steps: int
    tokens: int
    parameters: Parameters
    flops_per_token: Flops
    state_bytes: int
    dimensions: dict[str, Any]
    """The resolved model configuration."""
    test: Likelihood | None
    """None for a diverged run."""
    training_curve: list[CurvePoint]
    validation_curve: list[CurvePoint]
    signals_initial: SignalProfile | None
    signals_trained: SignalProfile | None
    output_health: OutputHealth | None
    train_tokens_per_second: float
    """The median over steps after the first."""
    peak_memory_bytes: int | None
    """The process's high-water mark during this run; None where it cannot be measured."""
    data_chain: str
    """SHA-256 chain over the batches consumed."""
    forms: dict[str, list[str]]
    """The forms in which each op ran."""
    interruptions: int
    chain_broken: str | None
    """Why a resume was not bit for bit (another machine, build or thread count), or None."""
    corpus_digest: str
    environment: dict[str, str]


class Interval(Record):
    """A mean over seeds with its Student t interval; low and high are None with fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None


class TestScores(Record):
    """Test scores of one arm over its seeds."""

    nats_per_token: Interval
    perplexity: Interval
    bits_per_byte: Interval | None


class ArmAudit(Record):
    """What the audit of one arm's model said, on the weights of one seed."""

    architecture: str
    seed: int
    moment: Literal["before training", "after training"]
    sound: bool
    summary: str
    """One line: how far it was searched, or what failed and where."""
    findings: list[dict[str, Any]]


class Arm(Record):
    """One architecture of a study over all its seeds."""

    architecture: str
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
    train_tokens_per_second: float
    peak_memory_bytes: int | None
    data_chain: str
    """One hash over the chains of the arm's seeds, in order."""
    growth_with_embedding: float | None
    growth_without_embedding: float | None
    signal_verdict: str | None
    """The verdict without the embedding, after training, on the mean growth over seeds."""
    output_verdict: str | None


class Pair(Record):
    """Two arms over the seeds they share: mean difference a - b in test nats per token, paired."""

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    level: float | None
    """Of the interval: that of the step at which Holm decided the pair, so that the two agree."""
    p_value: float | None
    """Paired t, two-sided, after Holm's correction over the pairs."""
    resolved: bool
    """The study is ranked and the interval excludes zero."""
    bootstrap_low: float | None
    bootstrap_high: float | None
    """95% over documents, seeds held fixed."""
    n_seeds: int
    sentence: str


class Floor(Record):
    """A model without a network, trained on the same tokens and scored on the same targets."""

    nats_per_token: float
    perplexity: float
    bits_per_byte: float | None


class StudyRecord(Versioned):
    """study.json: what was asked, what came out, and whether it may be ranked."""

    headline: list[str]
    """Sentences that must be read before the table."""
    ranked: bool
    not_ranked_because: str | None
    protocol: dict[str, Any]
    arms: list[Arm]
    """Best first where ranked."""
    audits: list[ArmAudit] = []
    pairs: list[Pair]
    floors: dict[str, Floor]
    tokens_per_parameter: float
    chains_equal: bool
    matched_within: float
    """The largest relative deviation of the matched quantity from its mean over arms."""
    corpus: dict[str, Any]
    environment: dict[str, str]
    report: str | None
