"""How well a model predicts what it can look up in its own context: tokens that complete a bigram seen before."""

from collections.abc import Sequence

import numpy as np

from assay.analysis.intervals.texts import drawn_together, over_drawn
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.measurements.likelihood import NatsOfTargets
from assay.records import Column, FigurePoint, MeasuredFigure, Record, Split
from assay.targets import IGNORED


class Recall(Record):
    """Mean nats of recall tokens and of all others; None where there are none of a kind."""

    split: Split
    recall_nats: float | None
    recall_tokens: int
    other_nats: float | None
    recall_low: float | None = None
    """The 95% interval over sources, or over windows where these are few; older records have none."""
    recall_high: float | None = None
    other_low: float | None = None
    other_high: float | None = None


class MeasureRecall(Measurement[Recall]):
    """Associative recall on text (Arora et al. 2023)."""

    name = "recall"
    question = "How well does the model predict tokens that it can look up in its own context?"
    unit = "nats per token"
    group = "memory"
    needs = frozenset({"trained"})
    record = Recall

    def readers(self, given: Given) -> Sequence[Reader]:
        return [NatsOfTargets(given.held_out)]

    def measure(self, given: Given, readers: Sequence[NatsOfTargets]) -> Recall:
        windows, nats = given.held_out, readers[0].nats
        recall = recall_mask(windows.inputs, windows.targets)
        other = (windows.targets != IGNORED) & ~recall
        drawn = drawn_together(windows.source)
        of_recall, of_other = (over_drawn((nats * of).sum(1), of.sum(1), drawn) for of in (recall, other))
        return Recall(
            split=given.split,
            recall_nats=of_recall.mean if recall.any() else None,
            recall_tokens=int(recall.sum()),
            other_nats=of_other.mean if other.any() else None,
            recall_low=of_recall.low,
            recall_high=of_recall.high,
            other_low=of_other.low,
            other_high=of_other.high,
        )

    def columns(self, values: Recall) -> list[Column]:
        recall, other = values.recall_nats, values.other_nats
        return [
            Column(
                key="recall",
                head="recall",
                format="nats",
                value=recall,
                low=values.recall_low,
                high=values.recall_high,
                better="lower",
            ),
            Column(
                key="other",
                head="other tokens",
                format="nats",
                value=other,
                low=values.other_low,
                high=values.other_high,
                under="recall",
            ),
        ]

    def figures(self, values: Recall) -> list[MeasuredFigure]:
        kinds = {"recall tokens": values.recall_nats, "other tokens": values.other_nats}
        return [
            MeasuredFigure(
                name="recall",
                title="Recall tokens and other tokens",
                caption="Recall tokens complete a bigram that stands earlier in the same context (Arora et al. 2023): "
                "a model that can look things up scores low on them. Bars reach from the lowest seed to the highest.",
                kind="marks",
                y_title=f"{values.split} nats per token",
                unit="nats_per_token",
                series=list(kinds),
                series_called="kind",
                points=[FigurePoint(y=nats, series=kind) for kind, nats in kinds.items() if nats is not None],
            )
        ]


def recall_mask(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """True where (input, target) is a bigram that was read before in the same window (Arora et al. 2023).

    What was read counts also where nothing is asked, as in the first part of a sequence that is to be copied.

    inputs   a b c a b a c
    targets  b c a b a c .
    recalled       * (the second "a b"; "a c" is new)
    """
    width = inputs.shape[1]
    ids = int(max(inputs.max(initial=0), targets.max(initial=0))) + 1
    asked = inputs.astype(np.int64) * ids + np.maximum(targets, 0)
    read = inputs[:, :-1].astype(np.int64) * ids + inputs[:, 1:]
    # What stands in the window and what is asked of it, in order: a question comes before the bigram at its own place.
    codes = np.concatenate([asked, read], axis=1)
    is_read = np.arange(codes.shape[1]) >= width
    time = np.concatenate([2 * np.arange(width), 2 * np.arange(width - 1) + 1])
    order = np.argsort(codes * (2 * width) + time, axis=1)
    ordered, reads = np.take_along_axis(codes, order, 1), is_read[order]
    before = np.cumsum(reads, axis=1) - reads
    begins = np.ones_like(ordered, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    at_begin = np.maximum.accumulate(np.where(begins, before, 0), axis=1)
    recalled = np.zeros_like(begins)
    np.put_along_axis(recalled, order, before > at_begin, 1)
    mask: np.ndarray = recalled[:, :width] & (targets != IGNORED)
    return mask


register(MeasureRecall())
