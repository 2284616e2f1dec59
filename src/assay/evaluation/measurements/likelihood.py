"""How well a model predicts held-out text: nats, perplexity, bits per byte, by document and by position."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from assay.data.scoring import ScoringWindows
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.scoring import ScoredBatch
from assay.records import Column, FigurePoint, Likelihood, MeasuredFigure, Split
from assay.targets import IGNORED

POSITION_STRETCHES = 16


class NatsOfTargets(Reader):
    """Keeps the nats of every held-out target, [N, context], zero where the target is padding."""

    def __init__(self, windows: ScoringWindows) -> None:
        self.nats = np.zeros(windows.targets.shape)

    def read(self, batch: ScoredBatch) -> None:
        self.nats[batch.rows, : batch.nats.shape[1]] = batch.nats


class MeasureLikelihood(Measurement[Likelihood]):
    """Every target scored once, each window from a fresh state."""

    name = "likelihood"
    question = "How well does the model predict text that it has not seen?"
    unit = "nats per token"
    group = "likelihood"
    needs = frozenset({"trained"})
    record = Likelihood

    def readers(self, given: Given) -> Sequence[Reader]:
        return [NatsOfTargets(given.held_out)]

    def measure(self, given: Given, readers: Sequence[NatsOfTargets]) -> Likelihood:
        return summarise(readers[0].nats, given.held_out, given.invertible, given.split)

    def columns(self, values: Likelihood) -> list[Column]:
        nats, perplexity, bits = values.nats_per_token, values.perplexity, values.bits_per_byte
        return [
            Column(key="nats_per_token", head="nats/token", format="nats", value=nats, better="lower"),
            Column(key="perplexity", head="perplexity", format="perplexity", value=perplexity, better="lower"),
            Column(key="bits_per_byte", head="bits/byte", format="nats", value=bits, better="lower"),
        ]

    def figures(self, values: Likelihood) -> list[MeasuredFigure]:
        stretches = zip(itertools.pairwise(values.position_edges), values.nats_by_position, strict=True)
        return [
            MeasuredFigure(
                name="position",
                title=f"{values.split.capitalize()} nats by position in the context",
                caption="A model that uses its context falls from left to right; where a line is flat, more context "
                "did not help. The band reaches from the lowest seed to the highest.",
                kind="lines",
                x_title="position in the context (tokens)",
                x_called="position",
                y_title="nats per token",
                unit="nats_per_token",
                points=[FigurePoint(x=(low + high) / 2, y=nats) for (low, high), nats in stretches],
            )
        ]


def summarise(nats: np.ndarray, windows: ScoringWindows, invertible: bool, split: Split = "test") -> Likelihood:
    """Turn nats [N, context] of the targets of `windows` into the record.

    Bits per byte = nats / ln 2 / bytes of the scored text, where EOS costs nats and stands for no byte; it is None
    where the tokenizer does not invert the corpus (`invertible` is False).
    """
    scored = windows.targets != IGNORED
    total, tokens, size = float(nats.sum()), int(scored.sum()), int(windows.bytes.sum())
    by_position, edges = _by_position(nats, scored)
    documents, first = np.unique(windows.document, return_index=True)
    return Likelihood(
        split=split,
        nats_per_token=total / tokens,
        perplexity=math.exp(min(total / tokens, 700.0)),
        bits_per_byte=total / math.log(2) / size if invertible and size else None,
        tokens=tokens,
        bytes=size if invertible else None,
        document_nats=_per_document(nats.sum(1), windows.document, documents),
        document_tokens=[int(n) for n in _per_document(scored.sum(1), windows.document, documents)],
        document_bytes=[int(n) for n in _per_document(windows.bytes, windows.document, documents)],
        document_sources=windows.source[first].tolist(),
        nats_by_position=by_position,
        position_edges=edges,
    )


def _by_position(nats: np.ndarray, scored: np.ndarray) -> tuple[list[float], list[int]]:
    """Mean nats in up to 16 stretches from the first target of any window to the last.

    Short windows end early, so the last may hold fewer tokens; a stretch without a target belongs to the one before.
    """
    places = np.flatnonzero(scored.any(0))
    first, end = int(places[0]), int(places[-1]) + 1
    edges = np.unique(np.linspace(first, end, min(POSITION_STRETCHES, end - first) + 1).round().astype(int))
    asked = [bool(scored[:, a:b].any()) for a, b in itertools.pairwise(edges)]
    edges = np.array([*edges[:-1][asked], end])
    means = [float(nats[:, a:b].sum() / scored[:, a:b].sum()) for a, b in itertools.pairwise(edges)]
    return means, [int(edge) for edge in edges]


def _per_document(values: np.ndarray, document: np.ndarray, documents: np.ndarray) -> list[float]:
    sums = np.bincount(np.searchsorted(documents, document), weights=values, minlength=len(documents))
    return [float(value) for value in sums]


register(MeasureLikelihood())
