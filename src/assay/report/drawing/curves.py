"""Figures of loss against training tokens and against FLOPs: a line over the seeds for each arm."""

from collections.abc import Mapping

import altair as alt
import numpy as np

from assay.analysis.under_floors import in_short
from assay.records import Floor
from assay.report.drawing.charts import Lines, lines_and_band, log_ticks
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.series import Row, over_seeds, seeds_of, stretches

AROUND = 130
"""About what the labels of both sides take of the width."""
STRETCHES = 120
"""A training curve is averaged over at most so many stretches of tokens, equal on a log scale."""


def loss_against_tokens(of: Drawn, floors: Mapping[str, Floor]) -> Figure | None:
    """Validation loss, training loss faded behind it (averaged over stretches), and the floors."""
    runs = [run.record for run in of.runs]
    last = max((point.tokens for run in runs for point in run.training_curve), default=1)
    edges = np.geomspace(1, last, STRETCHES).tolist()
    samples = [
        ((run.label, split, tokens), nats)
        for run in runs
        for split, points in (
            (
                "validation",
                [(point.tokens, point.nats_per_token) for point in run.validation_curve if point.tokens > 0],
            ),
            ("training", stretches(run.training_curve, edges)),
        )
        for tokens, nats in points
    ]
    rows = over_seeds(("arm", "split", "tokens"), samples, "nats_per_token")
    if not rows:
        return None
    validated = [row for row in rows if row["split"] == "validation"]
    start = min(float(row["tokens"]) for row in validated or rows)
    rules, far = _near(floors, [row for row in rows if float(row["tokens"]) >= start])
    kinds = ["validation", "training"] if validated else ["training"]
    lines = Lines(
        of.names, of.called, of.looks, "tokens", dashed_by="split", kinds=kinds, faded=True, start=start, rules=rules
    )
    begins = " The axis begins where validation does; the CSV has the training loss before that." if validated else ""
    return Figure(
        f"Loss against training tokens, {seeds_of(runs)}",
        "Mean over seeds; the band reaches from the lowest seed to the highest. Training loss, which is faded, is that "
        f"of the batches as they came, averaged over short stretches.{begins}{far}",
        rows,
        lambda width: lines_and_band(rows, lines, _log_axis("tokens", "training tokens", rows, start, width), width),
    )


def loss_against_flops(of: Drawn, floors: Mapping[str, Floor]) -> Figure | None:
    """Validation loss against what training had cost, by formula."""
    runs = [run.record for run in of.runs]
    samples = [
        ((run.label, float(point.tokens) * run.flops_per_token.training), point.nats_per_token)
        for run in runs
        for point in run.validation_curve
        if point.tokens > 0
    ]
    rows = over_seeds(("arm", "flops"), samples, "nats_per_token")
    if len({row["flops"] for row in rows}) < 2:
        return None
    start = min(float(row["flops"]) for row in rows)
    rules, far = _near(floors, rows)
    lines = Lines(of.names, of.called, of.looks, "flops", "validation nats per token", rules=rules, start=start)
    return Figure(
        f"Validation loss against training FLOPs, {seeds_of(runs)}",
        "Arms that cost more a token lie further right. FLOPs are those of the documented algorithm, three times the "
        f"forward pass a token; time depends on the kernels too. Mean over seeds, lowest to highest.{far}",
        rows,
        lambda width: lines_and_band(rows, lines, _log_axis("flops", "training FLOPs", rows, start, width), width),
    )


def _log_axis(field: str, title: str, rows: list[Row], start: float, width: int) -> alt.X:
    """From the start to the last value, which has a tick."""
    last = max(float(row[field]) for row in rows)
    if last <= start:
        start = last / 2
    axis = alt.Axis(format=".3~s", values=log_ticks(start, last, width - AROUND), labelOverlap=False)
    scale = alt.Scale(type="log", nice=False, domain=[start, last])
    return alt.X(f"{field}:Q", title=f"{title} (log scale)", axis=axis, scale=scale)


def _near(floors: Mapping[str, Floor], rows: list[Row]) -> tuple[dict[str, float], str]:
    """The floors that can be drawn without pressing the lines flat, and a sentence about the others."""
    low, high = (form(float(row["mean"]) for row in rows) for form in (min, max))
    room = max(high - low, 0.05)
    near = {f"{in_short(name, of)} floor {of.nats_per_token:.3f}": of.nats_per_token for name, of in floors.items()}
    far = {name: nats for name, nats in near.items() if not low - room <= nats <= high + room}
    return {name: nats for name, nats in near.items() if name not in far}, f" Outside: {', '.join(far)}." if far else ""
