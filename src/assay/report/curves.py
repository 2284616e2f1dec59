"""Figures that are lines over the seeds: loss against tokens, growth by depth, loss by position."""

import altair as alt
import numpy as np

from assay.analysis.entrants import scores_of
from assay.report.charts import Chart, Lines, lines_and_band
from assay.report.figure import Drawn, Figure
from assay.report.series import over_seeds, seeds_of, stretches

STRETCHES = 120
"""A training curve is averaged over at most so many stretches of tokens, equal on a log scale."""


def loss_against_tokens(of: Drawn) -> Figure | None:
    """Training loss, averaged over stretches, and validation loss where there is one."""
    last = max((point.tokens for run in of.runs for point in run.training_curve), default=1)
    edges = np.geomspace(1, last, STRETCHES).tolist()
    samples = [
        ((run.label, split, tokens), nats)
        for run in of.runs
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
        f"Loss against training tokens, {seeds_of(of.runs)}",
        "Mean over seeds; the band reaches from the lowest seed to the highest. Training loss is that of the batches "
        "as they came, averaged over short stretches.",
        rows,
        draw,
    )


def growth_by_depth(of: Drawn) -> Figure | None:
    """Standard deviation of the residual stream after the embedding and each block, at both ends of training."""
    samples = [
        ((run.label, when, depth), std)
        for run in of.runs
        for when, profile in (("initial", run.signals_initial), ("trained", run.signals_trained))
        if profile is not None
        for depth, std in enumerate(profile.std)
        if std > 0
    ]
    rows = over_seeds(("arm", "when", "depth"), samples, "std")
    if not rows:
        return None
    title = "standard deviation (log scale)"
    lines = Lines(of.names, of.looks, "depth", title, "log", dashed_by="when", kinds=["trained", "initial"])

    def draw(data: alt.InlineData, width: int) -> Chart:
        label = "datum.value == 0 ? 'emb.' : datum.value"
        axis = alt.Axis(labelExpr=label, tickMinStep=1, tickCount=width // 60, grid=False)
        return lines_and_band(
            data, lines, alt.X("depth:Q", title="blocks passed (emb.: after the embedding)", axis=axis), width
        )

    return Figure(
        f"Residual stream by depth, {seeds_of(of.runs)}",
        "Standard deviation over positions and channels on held-out text, at initialisation and after training. "
        "A straight rise on the log scale is growth by a constant factor a block.",
        rows,
        draw,
    )


def nats_by_position(of: Drawn) -> Figure | None:
    """Nats in equally long stretches of the context, on the split that is scored."""
    samples = [
        ((run.label, (low + high) / 2), nats)
        for run in of.runs
        if (scores := scores_of(run, of.split)) is not None
        for low, high, nats in zip(
            scores.position_edges, scores.position_edges[1:], scores.nats_by_position, strict=False
        )
    ]
    rows = over_seeds(("arm", "position"), samples, "nats_per_token")
    if not rows:
        return None
    lines = Lines(of.names, of.looks, "position")

    def draw(data: alt.InlineData, width: int) -> Chart:
        axis = alt.Axis(tickCount=width // 80)
        return lines_and_band(
            data, lines, alt.X("position:Q", title="position in the context (tokens)", axis=axis), width
        )

    return Figure(
        f"{of.split.capitalize()} nats by position in the context, {seeds_of(of.runs)}",
        "A model that uses its context falls from left to right; where a line is flat, more context did not help. "
        "The band reaches from the lowest seed to the highest.",
        rows,
        draw,
    )
