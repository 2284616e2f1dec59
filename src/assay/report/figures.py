"""What people would rather look at, drawn from records: one `Figure` a question, as SVG at any width and as CSV.

A line or a mark is the mean over the finished seeds of an architecture, a band or a bar reaches from the lowest seed to
the highest, unless the figure says otherwise. Diverged runs are left out.
"""

import csv
import dataclasses
import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import altair as alt
import numpy as np
import vl_convert

from assay.records import RunRecord, StudyRecord, write_whole
from assay.report.charts import GREY, Chart, colours, layer, lines_and_band, shapes, styled
from assay.report.series import Row, count_of_seeds, over_seeds, seeds_of, stretches

STRETCHES = 120
"""A training curve is averaged over at most so many stretches of tokens, equal on a log scale."""
WIDE, NARROW = 620, 330
"""Widths of a whole figure in pixels: for a desk, for a telephone."""
MARGIN = 60
"""About what an axis and its labels take of the width."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One chart: `rows` are its data; `draw(data, width)` gives it without title, `width` without the margin."""

    title: str
    caption: str
    rows: Sequence[Row]
    draw: Callable[[alt.InlineData, int], Chart]
    height: int = 300

    def svg(self, width: int = WIDE) -> str:
        """The figure as SVG, `width` pixels wide."""
        title = alt.TitleParams(textwrap.wrap(self.title, width // 10), anchor="start", frame="bounds", offset=12)
        chart = self.draw(alt.InlineData(values=list(self.rows)), width - MARGIN)
        fit = alt.AutoSizeParams(type="fit-x", contains="padding")
        chart = chart.properties(title=title, width=width, height=self.height, autosize=fit)
        svg: str = vl_convert.vegalite_to_svg(styled(chart, width))
        return svg

    def csv(self) -> str:
        """The data as CSV, one row a point."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg and `name`.csv into `folder`."""
    paths = [folder / f"{name}.svg", folder / f"{name}.csv"]
    for path, text in zip(paths, (figure.svg(), figure.csv()), strict=True):
        write_whole(path, text.encode())
    return paths


def study_figures(study: StudyRecord, runs: Sequence[RunRecord]) -> dict[str, Figure]:
    """All figures that the records have data for, by name."""
    names = sorted(arm.architecture for arm in study.arms)
    finished = [run for run in runs if run.status == "finished"]
    drawn = {
        "loss": loss_against_tokens(finished, names),
        "test": test_scores(study, names),
        "growth": growth_by_depth(finished, names),
        "position": nats_by_position(finished, names),
        "recall": recall_and_other(finished, names),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def loss_against_tokens(runs: Sequence[RunRecord], names: Sequence[str]) -> Figure | None:
    """Training loss, averaged over stretches, and validation loss where there is one."""
    last = max((point.tokens for run in runs for point in run.training_curve), default=1)
    edges = np.geomspace(1, last, STRETCHES).tolist()
    samples = [
        ((run.architecture, split, tokens), nats)
        for run in runs
        for split, curve in (("training", run.training_curve), ("validation", run.validation_curve))
        for tokens, nats in stretches(curve, edges)
    ]
    rows = over_seeds(("architecture", "split", "tokens"), samples, "nats_per_token")
    if not rows:
        return None

    def draw(data: alt.InlineData, width: int) -> Chart:
        axis = alt.Axis(format="~s", tickCount=width // 80)
        scale = alt.Scale(type="log", nice=False)
        x = alt.X("tokens:Q", title="training tokens (log scale)", axis=axis, scale=scale)
        return lines_and_band(data, names, x, dashed_by="split", kinds=["validation", "training"])

    return Figure(
        f"Loss against training tokens, {seeds_of(runs)}",
        "Mean over seeds; the band reaches from the lowest seed to the highest. Training loss is that of the batches "
        "as they came, averaged over short stretches.",
        rows,
        draw,
    )


def test_scores(study: StudyRecord, names: Sequence[str]) -> Figure | None:
    """Test nats of every arm with the interval over seeds; floors as lines."""
    scores = {arm.architecture: arm.test.nats_per_token for arm in study.arms if arm.test is not None}
    if not scores:
        return None
    rows: list[Row] = []
    for name, score in scores.items():
        low, high = (score.mean if end is None else end for end in (score.low, score.high))
        rows.append({"name": name, "kind": "architecture", "mean": score.mean, "low": low, "high": high})
    for name, floor in study.floors.items():
        nats = floor.nats_per_token
        rows.append({"name": f"{name} floor", "kind": "floor", "mean": nats, "low": nats, "high": nats})
    order = [str(row["name"]) for row in rows]

    def draw(data: alt.InlineData, width: int) -> Chart:
        y, x = alt.Y("name:N", sort=order, title=None), _nats_axis(width)
        colour = alt.Color("name:N", scale=colours(names), legend=None)
        shape = alt.Shape("name:N", scale=shapes(names), legend=None)
        arms = alt.Chart(data).transform_filter("datum.kind == 'architecture'")
        floors = alt.Chart(data).transform_filter("datum.kind == 'floor'")
        return layer(
            floors.mark_rule(strokeDash=[4, 4], color=GREY).encode(x=x),
            floors.mark_point(shape="diamond", filled=True, size=60, color=GREY, opacity=1).encode(x=x, y=y),
            arms.mark_rule(strokeWidth=2.5).encode(x="low:Q", x2="high:Q", y=y, color=colour),
            arms.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour, shape=shape),
        )

    with_interval = any(score.low is not None for score in scores.values())
    bars = "Bars are 95% intervals over seeds (Student t)." if with_interval else "One seed gives no interval."
    return Figure(
        f"Test nats per token, {count_of_seeds([len(arm.seeds) - arm.diverged for arm in study.arms if arm.test])}",
        f"Further left is better. {bars} Floors are models without a network, trained on the same tokens.",
        rows,
        draw,
        height=_rows_height(len(rows)),
    )


def growth_by_depth(runs: Sequence[RunRecord], names: Sequence[str]) -> Figure | None:
    """Standard deviation of the residual stream after the embedding and each block, at both ends of training."""
    samples = [
        ((run.architecture, when, depth), std)
        for run in runs
        for when, profile in (("initial", run.signals_initial), ("trained", run.signals_trained))
        if profile is not None
        for depth, std in enumerate(profile.std)
        if std > 0
    ]
    rows = over_seeds(("architecture", "when", "depth"), samples, "std")
    if not rows:
        return None

    def draw(data: alt.InlineData, width: int) -> Chart:
        label = "datum.value == 0 ? 'emb.' : datum.value"
        axis = alt.Axis(labelExpr=label, tickMinStep=1, tickCount=width // 60, grid=False)
        x = alt.X("depth:Q", title="blocks passed (emb.: after the embedding)", axis=axis)
        title = "standard deviation (log scale)"
        return lines_and_band(data, names, x, title, "log", dashed_by="when", kinds=["trained", "initial"])

    return Figure(
        f"Residual stream by depth, {seeds_of(runs)}",
        "Standard deviation over positions and channels on held-out text, at initialisation and after training. "
        "A straight rise on the log scale is growth by a constant factor a block.",
        rows,
        draw,
    )


def nats_by_position(runs: Sequence[RunRecord], names: Sequence[str]) -> Figure | None:
    """Test nats in equally long stretches of the context."""
    samples = [
        ((run.architecture, (low + high) / 2), nats)
        for run in runs
        if (test := run.test) is not None
        for low, high, nats in zip(test.position_edges, test.position_edges[1:], test.nats_by_position, strict=False)
    ]
    rows = over_seeds(("architecture", "position"), samples, "nats_per_token")
    if not rows:
        return None

    def draw(data: alt.InlineData, width: int) -> Chart:
        x = alt.X("position:Q", title="position in the context (tokens)", axis=alt.Axis(tickCount=width // 80))
        return lines_and_band(data, names, x)

    return Figure(
        f"Test nats by position in the context, {seeds_of(runs)}",
        "A model that uses its context falls from left to right; where a line is flat, more context did not help. "
        "The band reaches from the lowest seed to the highest.",
        rows,
        draw,
    )


def recall_and_other(runs: Sequence[RunRecord], names: Sequence[str]) -> Figure | None:
    """Tokens that complete a bigram already seen in the context, against the rest (Arora et al. 2023)."""
    samples = [
        ((run.architecture, kind), nats)
        for run in runs
        if run.test is not None
        for kind, nats in (("recall tokens", run.test.recall_nats), ("other tokens", run.test.other_nats))
        if nats is not None
    ]
    rows = over_seeds(("architecture", "kind"), samples, "nats_per_token")
    if not rows:
        return None

    def draw(data: alt.InlineData, width: int) -> Chart:
        base = alt.Chart(data).encode(
            y=alt.Y("architecture:N", title=None), color=alt.Color("architecture:N", scale=colours(names), legend=None)
        )
        kinds = alt.Scale(domain=["recall tokens", "other tokens"], range=["circle", "diamond"])
        shape = alt.Shape("kind:N", scale=kinds, title=None, legend=alt.Legend(orient="top"))
        return layer(
            base.mark_line(strokeWidth=1.5, opacity=0.5).encode(x=_nats_axis(width)),
            base.mark_rule(strokeWidth=2.5).encode(x="low:Q", x2="high:Q"),
            base.mark_point(filled=True, size=60, opacity=1).encode(x=_nats_axis(width), shape=shape),
        )

    return Figure(
        f"Recall tokens and other tokens, {seeds_of(runs)}",
        "Recall tokens complete a bigram that stands earlier in the same context (Arora et al. 2023): a model that "
        "can look things up scores low on them. Bars reach from the lowest seed to the highest.",
        rows,
        draw,
        height=_rows_height(len({row["architecture"] for row in rows})),
    )


def _nats_axis(width: int) -> alt.X:
    scale = alt.Scale(zero=False, padding=12)
    return alt.X("mean:Q", title="test nats per token", scale=scale, axis=alt.Axis(tickCount=width // 60))


def _rows_height(rows: int) -> int:
    return 40 * rows + 20
