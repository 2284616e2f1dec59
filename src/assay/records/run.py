"""What a run leaves in record.json: counts, curves, provenance. What was measured lies in files beside it.

Nats are per predicted token unless a name says otherwise.
"""

from typing import Any, ClassVar, Literal

from assay.records.versioned import Record, Versioned

Match = Literal["blocks+head", "non-embedding", "total", "flops", "state"]
"""What arms are made equal in: parameters (`blocks_and_head`, `non_embedding`, all), FLOPs a token, bytes of state."""
DEFAULT_MATCH: Match = "blocks+head"

MEASURED_INSIDE = ("test", "validation", "signals_initial", "signals_trained", "output_health")
"""What versions 1 and 2 held that are results of their own now."""


class Parameters(Record):
    """Parameter counts."""

    total: int
    embedding: int
    """Token and position tables; a tied head is counted once, here."""
    non_embedding: int
    """Without tables and without any head. In records without `blocks_and_head`, which are older, an untied head is in
    it.
    """
    blocks_and_head: int | None = None
    """Blocks and norms, and one head of vocabulary x d_model, tied or not; None in older records."""
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


class OptimizerGroup(Record):
    """Parameters that the optimizer treats alike."""

    weight_decay: float
    rate_factor: float
    """Their learning rate over that of the step."""
    parameters: int
    optimizer: Literal["adamw", "muon"] = "adamw"


class CurvePoint(Record):
    """One point of a loss curve."""

    step: int
    tokens: int
    nats_per_token: float


class RunRecord(Versioned):
    """All that there is to know of one finished or diverged run: what it was asked, and what came out."""

    version: ClassVar[int] = 3
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
    optimizer_groups: list[OptimizerGroup] = []
    """Empty in older records."""
    flops_per_token: Flops
    state_bytes: int
    dimensions: dict[str, Any]
    """The resolved model configuration."""
    training_curve: list[CurvePoint]
    validation_curve: list[CurvePoint]
    weights_step: int | None = None
    """The steps after which the weights were taken that are measured; None in older records: after the last."""
    portion_curves: dict[str, list[CurvePoint]] = {}
    """Of a run on a task mixed with a text: `text` and `task` -> nats per target of that part of each batch."""
    train_tokens_per_second: float
    """The median over steps after the first, beside whatever else ran: no measure of an architecture's speed."""
    peak_memory_bytes: int | None
    """The process's high-water mark during this run; None where it cannot be measured."""
    data_chain: str
    """SHA-256 chain over the batches consumed."""
    forms: dict[str, list[str]]
    """The form of each op that the model uses, by the plan; in older records the forms that were seen to run."""
    interruptions: int
    branched_at: int | None = None
    """The first steps, where they are those of a run to a larger budget, from which this one branched."""
    chain_broken: str | None
    """Why a resume was not bit for bit (another machine, build or thread count), or None."""
    corpus_digest: str
    environment: dict[str, str]

    @classmethod
    def upgraded(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Version 1 keyed everything by architecture; 1 and 2 held what was measured (`records.embedded`)."""
        kept = {name: value for name, value in values.items() if name not in MEASURED_INSIDE}
        return {"label": values["architecture"], **kept}
