"""How well a model predicts held-out text: nats, perplexity, bits per byte, by position and by associative recall."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from assay.data.scoring import ScoringWindows
from assay.evaluation.scoring import score_windows
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Likelihood
from assay.targets import IGNORED

POSITION_STRETCHES = 16


def measure_likelihood(
    model: LanguageModel,
    windows: ScoringWindows,
    plan: ExecutionPlan,
    invertible: bool,
    tell: Callable[[float], None] | None = None,
) -> Likelihood:
    """Score every target of `windows`, each window from a fresh state.

    Bits per byte = nats / ln 2 / bytes of the scored text, where EOS costs nats and stands for no byte; it is None
    where the tokenizer does not invert the corpus (`invertible` is False).
    """
    return summarise(score_windows(model, windows, plan, tell), windows, invertible)


def summarise(nats: np.ndarray, windows: ScoringWindows, invertible: bool) -> Likelihood:
    """Turn nats [N, context] of the targets of `windows` into the record."""
    scored = windows.targets != IGNORED
    total, tokens, size = float(nats.sum()), int(scored.sum()), int(windows.bytes.sum())
    by_position, edges = _by_position(nats, scored)
    recall = recall_mask(windows.inputs, windows.targets)
    other = scored & ~recall
    documents = np.unique(windows.document)
    return Likelihood(
        nats_per_token=total / tokens,
        perplexity=math.exp(min(total / tokens, 700.0)),
        bits_per_byte=total / math.log(2) / size if invertible and size else None,
        tokens=tokens,
        bytes=size if invertible else None,
        document_nats=_per_document(nats.sum(1), windows.document, documents),
        document_tokens=[int(n) for n in _per_document(scored.sum(1), windows.document, documents)],
        document_bytes=[int(n) for n in _per_document(windows.bytes, windows.document, documents)],
        nats_by_position=by_position,
        position_edges=edges,
        recall_nats=float(nats[recall].mean()) if recall.any() else None,
        recall_tokens=int(recall.sum()),
        other_nats=float(nats[other].mean()) if other.any() else None,
    )


def recall_mask(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """True where (input, target) is a bigram that occurred before in the same window (Arora et al. 2023).

    inputs   a b c a b a c
    targets  b c a b a c .
    recalled       * (the second "a b"; "a c" is new)
    """
    width = inputs.shape[1]
    pair = inputs.astype(np.int64) * (int(targets.max(initial=0)) + 1) + np.maximum(targets, 0)
    # Padding gets codes of its own, so that it repeats nothing.
    pair = np.where(targets == IGNORED, -1 - np.arange(width), pair)
    order = np.argsort(pair, axis=1, kind="stable")
    ordered = np.take_along_axis(pair, order, 1)
    repeated = np.zeros_like(ordered, dtype=bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    mask = np.zeros_like(repeated)
    np.put_along_axis(mask, order, repeated, 1)
    return mask


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
