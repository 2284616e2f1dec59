"""How many bits a byte of several texts costs a model: its own kind of text and others, none of it trained on."""

import math
import re
from collections.abc import Sequence

import numpy as np

from assay.analysis.intervals.texts import drawn_together, over_drawn
from assay.data.text.elsewhere import TextWindows
from assay.errors import RequestError
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.evaluation.scoring import score_windows
from assay.records import Column, Record
from assay.records.results import TEXTS
from assay.targets import IGNORED


class OnText(Record):
    """One text; `low` and `high` are the 95% interval over its sources, None with fewer than 20."""

    corpus: str
    own: bool
    """Whether it is held out of the corpus that the model was trained on."""
    bits_per_byte: float | None
    """None where the tokenizer does not give the text back."""
    low: float | None
    high: float | None
    nats_per_token: float
    tokens: int
    bytes: int
    digest: str
    """SHA-256 of what was scored: only under equal ones are two models compared."""


class OnTexts(Record):
    """Those that there are, in the order in which they were asked for."""

    texts: list[OnText]
    lacks: dict[str, str]
    """Corpus -> why there is nothing."""


class MeasureTexts(Measurement[OnTexts]):
    """Bits per byte of the corpora of `evaluation.texts`."""

    name = TEXTS
    question = "How well does the model predict several texts, of its own kind and of others?"
    unit = "bits per byte"
    group = "likelihood"
    by_group = False
    needs = frozenset({"trained"})
    record = OnTexts

    def measure(self, given: Given, readers: Sequence[Reader]) -> OnTexts:
        if not given.elsewhere:
            return OnTexts(texts=[], lacks={"all texts": "the data are a task, whose ids stand for no text"})
        texts, lacks = list[OnText](), dict[str, str]()
        for corpus, of in given.elsewhere.items():
            given.tell(f"{given.label}, seed {given.seed}: texts, {corpus}")
            try:
                found = of()
            except RequestError as error:
                lacks[corpus] = str(error)
                continue
            texts.append(on_text(corpus, found, score_windows(given.trained, found.windows, given.plan)))
        return OnTexts(texts=texts, lacks=lacks)

    def columns(self, values: OnTexts) -> list[Column]:
        return [
            Column(
                key=re.sub(r"\W+", "-", of.corpus),
                head=of.corpus.rpartition("/")[2],
                second="bits/byte, held out" if of.own else "bits/byte",
                format="nats",
                value=of.bits_per_byte,
                low=of.low,
                high=of.high,
                better="lower",
            )
            for of in values.texts
        ]

    def sentences(self, values: OnTexts) -> list[str]:
        """What could not be measured."""
        lost = [of.corpus for of in values.texts if of.bits_per_byte is None]
        said = [f"Bits per byte of {corpus}: none, as the tokenizer does not give the text back." for corpus in lost]
        return said + [f"Bits per byte of {corpus}: not measured, {why}." for corpus, why in values.lacks.items()]


def on_text(corpus: str, of: TextWindows, nats: np.ndarray) -> OnText:
    """The numbers of nats [N, context], zero where a window is padded."""
    windows = of.windows
    bits = over_drawn(nats.sum(1) / math.log(2), windows.bytes, drawn_together(windows.source))
    known = of.invertible and bool(windows.bytes.sum())
    tokens = int((windows.targets != IGNORED).sum())
    return OnText(
        corpus=corpus,
        own=of.own,
        bits_per_byte=bits.mean if known else None,
        low=bits.low if known else None,
        high=bits.high if known else None,
        nats_per_token=float(nats.sum()) / tokens,
        tokens=tokens,
        bytes=int(windows.bytes.sum()),
        digest=of.digest,
    )


register(MeasureTexts())
