"""The figure of loss against training tokens: a line over the seeds for each arm."""

import altair as alt
import numpy as np

from assay.report.drawing.charts import Chart, Lines, lines_and_band
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.series import over_seeds, seeds_of, stretches

STRETCHES = 120
"""A training curve is averaged over at most so many stretches of tokens, equal on a log scale."""


def loss_against_tokens(of: Drawn) -> Figure | None:
    """Training loss, averaged over stretches, and validation loss where there is one."""
    runs = [run.record for run in of.runs]
    last = max((point.tokens for run in runs for point in run.training_curve), default=1)
    edges = np.geomspace(1, last, STRETCHES).tolist()
    samples = [
        ((run.label, split, tokens), nats)
        for run in runs
        for split, curve in (("training", run.training_curve), ("validation", run.validation_curve))
        for tokens, nats in stretches(curve, edges)
    ]
    rows = over_seeds(("arm", "split", "tokens"), samples, "nats_per_token")
    if not rows:
        return None
    lines = Lines(of.names, of.looks, "tokens", dashed_by="split", kinds=["validation", "training"])

    def draw(data: alt.InlineData, width: int) -> Chart:
        axis = alt.Axis(format="~s", tickCount=width // 80)
        scale = alt.Scale(type="log", nice=False)
        return lines_and_band(
            data, lines, alt.X("tokens:Q", title="training tokens (log scale)", axis=axis, scale=scale), width
        )

    return Figure(
        f"Loss against training tokens, {seeds_of(runs)}",
        "Mean over seeds; the band reaches from the lowest seed to the highest. Training loss is that of the batches "
        "as they came, averaged over short stretches.",
        rows,
        draw,
    )
