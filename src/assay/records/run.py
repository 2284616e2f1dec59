"""What a run leaves in record.json: counts, scores, curves, signals, provenance.

Nats are per predicted token unless a name says otherwise. Every list over layers starts with the embedding.
"""

from typing import Any, ClassVar, Literal

from assay.records.versioned import Record, Versioned

Match = Literal["total", "non-embedding", "flops", "state"]
"""What arms are made equal in: parameters, parameters without tables, FLOPs per token, bytes of state."""
Split = Literal["test", "validation"]
"""What a study is scored on."""


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
    """All that there is to know of one finished or diverged run: what it was asked, and what came out."""

    version: ClassVar[int] = 2
    label: str
    """The arm's name in its study; everything that compares runs goes by it."""
    architecture: str
    seed: int
    replicate: int = 0
    """Salts initialisation and dropout, never the data."""
    spec: dict[str, Any] = {}
    """Everything that decides the run's numbers (`assay.study.spec.Spec`); empty where a version-1 run did not say."""
    spec_digest: str = ""
    plan: dict[str, Any] = {}
    """The execution plan that it obeyed."""
    status: Literal["finished", "diverged"]
    steps: int
    tokens: int
    parameters: Parameters
    flops_per_token: Flops
    state_bytes: int
    dimensions: dict[str, Any]
    """The resolved model configuration."""
    test: Likelihood | None
    """None for a diverged run, and where the test split stays closed."""
    validation: Likelihood | None = None
    """The same scores on the validation split, where the study is scored on that (`evaluation.split`)."""
    training_curve: list[CurvePoint]
    validation_curve: list[CurvePoint]
    signals_initial: SignalProfile | None
    signals_trained: SignalProfile | None
    output_health: OutputHealth | None
    train_tokens_per_second: float
    """The median over steps after the first, beside whatever else ran: no measure of an architecture's speed."""
    peak_memory_bytes: int | None
    """The process's high-water mark during this run; None where it cannot be measured."""
    data_chain: str
    """SHA-256 chain over the batches consumed."""
    forms: dict[str, list[str]]
    """The form of each op that the model uses, by the plan; in older records the forms that were seen to run."""
    interruptions: int
    chain_broken: str | None
    """Why a resume was not bit for bit (another machine, build or thread count), or None."""
    corpus_digest: str
    environment: dict[str, str]

    @property
    def scores(self) -> Likelihood | None:
        """On the split that the study is scored on."""
        return self.test or self.validation

    @classmethod
    def upgraded(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Version 1 keyed everything by architecture and did not say what a run was asked."""
        return {**values, "label": values["architecture"]}
