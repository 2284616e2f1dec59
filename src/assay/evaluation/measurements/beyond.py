"""What a model gains from text that stands further back than its training context: the same targets with both."""

from collections.abc import Sequence

from assay.analysis.intervals.texts import over_drawn
from assay.evaluation.context_lengths import TARGETS, context_curve, long_windows
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.records import Column, Interval, Record

TIMES = 4
"""So many training contexts are read."""
WINDOWS = 64


class Beyond(Record):
    """The loss with a training context less that with several, in nats per token; nothing where it cannot be had."""

    lacks: str | None
    """Why there is nothing."""
    trained: int
    """The training context, in tokens."""
    read: int | None
    """Tokens of the longer context: what it can read at most, where its positions end before."""
    gained: Interval | None
    """Above zero where the longer context helps; exactly zero of a model whose positions end with its training."""
    windows: int
    targets: int
    """Of a window: its last ones."""


class MeasureBeyond(Measurement[Beyond]):
    """One length beyond the training context, on windows of held-out documents that reach it."""

    name = "beyond"
    question = "Does text from beyond the training context help the model or harm it?"
    unit = "nats per token"
    group = "character"
    needs = frozenset({"trained"})
    record = Beyond

    def measure(self, given: Given, readers: Sequence[Reader]) -> Beyond:
        trained = given.held_out.inputs.shape[1]
        if given.recut is None:
            return _nothing("the data are a task, whose sequences have a length of their own", trained)
        positions = given.trained.max_positions
        longest = TIMES * trained if positions is None else min(TIMES * trained, positions)
        if longest <= trained:  # it reads its last `trained` tokens, however many there are
            none = Interval(mean=0.0, low=0.0, high=0.0)
            return Beyond(lacks=None, trained=trained, read=trained, gained=none, windows=0, targets=0)
        found = long_windows(given.recut, [trained, longest], 0, WINDOWS)
        if found is None or len(found[1]) < 2:
            return _nothing(f"too few held-out documents have {longest} tokens", trained)
        windows, lengths = found
        targets = max(1, min(TARGETS, trained // 4))
        curve = context_curve(given.trained, windows, lengths, trained, given.plan, targets, tell=given.tell)
        gained = over_drawn(curve.nats[0] - curve.nats[1], curve.scored, curve.drawn)
        return Beyond(
            lacks=None, trained=trained, read=longest, gained=gained, windows=len(curve.scored), targets=targets
        )

    def columns(self, values: Beyond) -> list[Column]:
        """What it is worth to let it read on: nothing where that harms, as its text can always be cut."""
        of = values.gained
        return [
            Column(
                key="long_context",
                head="gain beyond",
                second="its context, nats",
                format="number",
                value=None if of is None else max(0.0, of.mean),
                low=None if of is None or of.low is None else max(0.0, of.low),
                high=None if of is None or of.high is None else max(0.0, of.high),
                better="higher",
            )
        ]

    def sentences(self, values: Beyond) -> list[str]:
        if values.gained is None:
            return [f"What text beyond its training context is worth was not measured: {values.lacks}."]
        if values.windows == 0:
            return [
                f"Its positions end at {values.trained} tokens: it reads no text beyond, so it gains nothing there."
            ]
        low, high = values.gained.low, values.gained.high
        ends = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
        return [
            f"With {values.read} tokens of context in place of {values.trained} the same targets cost "
            f"{-values.gained.mean:+.4f} nats per token; gained {values.gained.mean:+.4f}{ends}."
        ]


def _nothing(lacks: str, trained: int) -> Beyond:
    return Beyond(lacks=lacks, trained=trained, read=None, gained=None, windows=0, targets=0)


register(MeasureBeyond())
