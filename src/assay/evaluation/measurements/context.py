"""How much context a model uses, and where more of it begins to harm."""

from collections.abc import Sequence

from assay.analysis.intervals.texts import said_of
from assay.evaluation.context_lengths import (
    TOLERATED_NATS,
    ContextCurve,
    ContextProtocol,
    context_curve,
    context_lengths,
    long_windows,
)
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.records import Column, FigurePoint, Interval, MeasuredFigure, Record

WHOLE = ContextProtocol(windows=256, per_doubling=2)
QUICK = ContextProtocol(windows=24, per_doubling=1, longest_times=4)


class AtLength(Record):
    """The loss on the targets with a context of so many tokens, in nats per token."""

    tokens: int
    nats: Interval
    above_best: Interval
    """The same targets' loss less that at the best length."""


class ContextUse(Record):
    """The same targets at every length of context; nothing where it cannot be measured."""

    lacks: str | None
    """Why there is nothing."""
    trained: int
    """The training context."""
    lengths: list[AtLength]
    effective: int | None
    """The smallest length within 0.01 nats of the best at or below the training context."""
    effective_low: int | None
    """The smallest that is not told from such a one."""
    effective_high: int | None
    """The smallest that is told to be one."""
    first_worse: int | None
    """The first length beyond the best whose loss is higher, its interval above zero."""
    positions: int | None
    """The model has learned positions for so many tokens, and what is longer is not applicable."""
    too_long: list[int]
    """Lengths that too few held-out documents reach."""
    windows: int
    targets: int
    """Of a window: its last ones."""
    over: str
    """What the intervals are over: sources or windows."""
    drawn: int


class MeasureContext(Measurement[ContextUse]):
    """Contexts from short to eight times the training context, or as far as the protocol goes."""

    name = "context"
    question = "How much context does the model use, and at which length does it get worse?"
    unit = "tokens"
    group = "character"
    needs = frozenset({"trained"})
    record = ContextUse
    version = 2  # a length is worse only where that is told though the best was picked among lengths
    quick = f"{QUICK.windows} windows, one length for each doubling, up to {QUICK.longest_times} training contexts"

    def measure(self, given: Given, readers: Sequence[Reader]) -> ContextUse:
        protocol = QUICK if given.quick else WHOLE
        trained = given.held_out.inputs.shape[1]
        if given.recut is None:
            return _nothing("the data are a task, whose sequences have a length of their own", trained)
        positions = given.trained.max_positions
        lengths = context_lengths(trained, protocol.per_doubling, protocol.longest_times)
        possible = [length for length in lengths if positions is None or length <= positions]
        found = long_windows(given.recut, possible, 0, protocol.windows)
        if found is None:
            return _nothing(f"fewer than 20 held-out windows have {possible[0]} tokens", trained)
        windows, reached = found
        targets = max(1, min(protocol.targets, reached[0] // 4))
        curve = context_curve(given.trained, windows, reached, trained, given.plan, targets, tell=given.tell)
        return as_use(curve, positions if len(possible) < len(lengths) else None, possible[len(reached) :])

    def columns(self, values: ContextUse) -> list[Column]:
        return [
            Column(
                key="effective",
                head="context used",
                second="tokens",
                format="number",
                value=values.effective,
                low=values.effective_low,
                high=values.effective_high,
                spread="range",
            ),
            Column(
                key="worse",
                head="worse from",
                second="tokens",
                format="number",
                value=values.first_worse,
                spread="range",
            ),
        ]

    def figures(self, values: ContextUse) -> list[MeasuredFigure]:
        points = [
            FigurePoint(x=at.tokens, y=at.above_best.mean, low=at.above_best.low, high=at.above_best.high)
            for at in values.lengths
        ]
        return [
            MeasuredFigure(
                name="context",
                title="Loss by length of context",
                caption="Nats per token above the best length at or below the training context, of the same targets at "
                f"every length: the last {values.targets} of each window. Where a line rises to the right of the "
                "dashed one, more context than in training does harm. The band is the 95% interval, of each length by "
                "itself: over seeds, or with one seed over texts.",
                kind="lines",
                x_title="tokens of context",
                x_called="tokens",
                x_scale="log",
                y_title="nats per token above the best",
                x_rules={"trained on": values.trained},
                unit="nats_per_token",
                points=[point for point in points if abs(point.y) != float("inf")],
            )
        ]

    def sentences(self, values: ContextUse) -> list[str]:
        if values.lacks is not None:
            return [f"How much context it uses was not measured: {values.lacks}."]
        between = ""
        if values.effective_low is not None and values.effective_high is not None:
            between = f" (between {values.effective_low} and {values.effective_high})"
        lines = [
            f"It uses {values.effective} tokens of context{between}: with no more it is within {TOLERATED_NATS} nats "
            f"of the best up to its training context of {values.trained}."
        ]
        longest = values.lengths[-1].tokens
        if values.first_worse is not None:
            lines.append(f"With {values.first_worse} tokens it is worse than at its best length.")
        elif longest > values.trained:
            lines.append(f"It does not get worse up to {longest} tokens, so far as these texts tell.")
        if values.positions is not None:
            lines.append(f"Beyond {values.positions} tokens it has no learned positions: not applicable.")
        if values.too_long:
            lines.append(f"Too few held-out documents have {values.too_long[0]} tokens or more.")
        return [*lines, *said_of(values.over, self.name)]


def as_use(curve: ContextCurve, positions: int | None = None, too_long: Sequence[int] = ()) -> ContextUse:
    """The numbers of `curve`."""
    effective, low, high = curve.effective()
    return ContextUse(
        lacks=None,
        trained=curve.trained,
        lengths=[
            AtLength(tokens=length, nats=curve.loss(index), above_best=curve.above_best(index))
            for index, length in enumerate(curve.lengths)
        ],
        effective=effective,
        effective_low=low,
        effective_high=high,
        first_worse=curve.first_worse(),
        positions=positions,
        too_long=list(too_long),
        windows=len(curve.scored),
        targets=curve.targets,
        over=curve.drawn.over,
        drawn=curve.drawn.size,
    )


def _nothing(lacks: str, trained: int) -> ContextUse:
    return ContextUse(
        lacks=lacks,
        trained=trained,
        lengths=[],
        effective=None,
        effective_low=None,
        effective_high=None,
        first_worse=None,
        positions=None,
        too_long=[],
        windows=0,
        targets=0,
        over="",
        drawn=0,
    )


register(MeasureContext())
