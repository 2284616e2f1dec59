"""How well a model predicts held-out text: the one measurement that arms are ranked on, so that analysis knows it."""

from typing import Literal

from assay.records.versioned import Record

Split = Literal["test", "validation"]
"""What a study is scored on."""


class Likelihood(Record):
    """Scores on one split. The per-document sums allow an interval over texts without the model."""

    split: Split = "test"
    nats_per_token: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int
    bytes: int | None
    document_nats: list[float]
    document_tokens: list[int]
    document_bytes: list[int]
    document_sources: list[int] | None = None
    """Numbers of the sources that the documents are from; None where they are not known."""
    nats_by_position: list[float]
    """Mean nats in each of equally long stretches of the context, first to last."""
    position_edges: list[int]
    """len(nats_by_position) + 1 positions that bound the stretches."""
