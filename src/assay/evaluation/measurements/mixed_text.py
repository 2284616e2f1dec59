"""How well a model that was trained on a task and a text predicts the text."""

from collections.abc import Sequence

import numpy as np

from assay.data.worded.dataset import TextTaskDataset
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.measurements.likelihood import summarise
from assay.evaluation.scoring import ScoredBatch
from assay.records import Column, Likelihood


class NatsOfText(Reader):
    """Keeps the nats of every held-out target of the text, [N, context]."""

    text = "mixed"

    def __init__(self, given: Given) -> None:
        self.nats = np.zeros(given.mixed.targets.shape)

    def read(self, batch: ScoredBatch) -> None:
        self.nats[batch.rows, : batch.nats.shape[1]] = batch.nats


class MeasureMixedText(Measurement[Likelihood]):
    """The likelihood of the text of a mixture; that of the task is `likelihood`."""

    name = "mixed_text"
    question = "How well does the model predict the text that its task was mixed with?"
    unit = "nats per token"
    group = "likelihood"
    needs = frozenset({"trained", "mixture"})
    record = Likelihood

    def readers(self, given: Given) -> Sequence[Reader]:
        return [NatsOfText(given)]

    def measure(self, given: Given, readers: Sequence[NatsOfText]) -> Likelihood:
        assert isinstance(given.task, TextTaskDataset)
        corpus = given.task.mixed_with
        return summarise(readers[0].nats, given.mixed, corpus is not None and corpus.invertible, given.split)

    def columns(self, values: Likelihood) -> list[Column]:
        nats, bits = values.nats_per_token, values.bits_per_byte
        return [
            Column(key="nats_per_token", head="text", second="nats/token", format="nats", value=nats, better="lower"),
            Column(key="bits_per_byte", head="text", second="bits/byte", format="nats", value=bits, better="lower"),
        ]


register(MeasureMixedText())
