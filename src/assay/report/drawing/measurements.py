"""Figures of measurements, drawn from what their results say of themselves: lines over x, marks or bars of arms."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

import altair as alt

from assay.analysis.columns import mixed
from assay.records import FigurePoint, Interval, MeasuredFigure, Results
from assay.report.drawing.bars import MOST_BARS, bars, bars_height
from assay.report.drawing.charts import Chart, Lines, arms_axis, layer, lines_and_band
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.looks import colours
from assay.report.drawing.marks import rows_height
from assay.report.drawing.series import Row, count_of_seeds, intervals_over_seeds, over_seeds

SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down", "triangle-right")
"""Of the series of marks."""


def measured_figures(of: Drawn, of_study: Results, taken: Collection[str] = ()) -> dict[str, Figure]:
    """Every figure that the results of runs and of the study have points for, by name.

    One whose name is `taken`, or that of another measurement's figure too, is called MEASUREMENT-NAME. What is mixed of
    several versions or codes is not drawn.
    """
    found: dict[tuple[str, str], list[tuple[str, MeasuredFigure]]] = {}
    hidden = mixed(run.results for run in of.runs)
    sources = [(run.record.label, result) for run in of.runs for result in run.results.values()]
    for label, result in [*sources, *(("", result) for result in of_study.values())]:
        for figure in result.figures if result.measurement not in hidden else ():
            found.setdefault((result.measurement, figure.name), []).append((label, figure))
    names = Counter([*taken, *(name for _, name in found)])
    figures = {}
    for (measurement, name), parts in found.items():
        rows = _rows(parts, of.names)
        if rows:
            figure = _together(parts)
            called = name if names[name] == 1 else f"{measurement}-{name}"
            figures[called] = _figure(figure, rows, of, _spots(parts, figure, of.names))
    return figures


def _together(parts: Sequence[tuple[str, MeasuredFigure]]) -> MeasuredFigure:
    """The figure of all: arms may have other series, or places with names that others lack."""
    first = parts[0][1]
    series = list(dict.fromkeys(series for _, figure in parts for series in figure.series))
    x_names, x_rules, y_rules = (
        {key: value for _, figure in parts for key, value in getattr(figure, field).items()}
        for field in ("x_names", "x_rules", "y_rules")
    )
    return first.model_copy(update={"series": series, "x_names": x_names, "x_rules": x_rules, "y_rules": y_rules})


def _spots(parts: Sequence[tuple[str, MeasuredFigure]], figure: MeasuredFigure, names: Sequence[str]) -> Sequence[Row]:
    return [
        {"arm": spot.arm or label, figure.x_called: spot.x, "mean": spot.y}
        for label, of in parts
        for spot in of.spots
        if (spot.arm or label) in names
    ]


def _rows(parts: Sequence[tuple[str, MeasuredFigure]], names: Sequence[str]) -> list[Row]:
    """Over the seeds; series come in the order that the figure gives them."""
    first = parts[0][1]
    order = {series: place for place, series in enumerate(_together(parts).series)}
    samples = [
        ((point.arm or label, *_key(figure, point.series, point.x)), point)
        for label, figure in parts
        for point in figure.points
        if (point.arm or label) in names
    ]
    fields = ("arm", *_called(first))
    if any(_has_interval(point) for _, point in samples):
        of = [(key, Interval(mean=point.y, low=point.low, high=point.high)) for key, point in samples]
        rows = intervals_over_seeds(fields, of, first.unit)
    else:
        rows = over_seeds(fields, [(key, point.y) for key, point in samples], first.unit)
    if not order:
        return rows
    return sorted(rows, key=lambda row: (names.index(str(row["arm"])), order[str(row[first.series_called])]))


def _has_interval(point: FigurePoint) -> bool:
    return point.low is not None and point.high is not None


def _called(figure: MeasuredFigure) -> Iterator[str]:
    """The fields of its data beside the arm."""
    if figure.series:
        yield figure.series_called
    if figure.kind != "marks":
        yield figure.x_called


def _key(figure: MeasuredFigure, series: str, x: float) -> Iterator[str | float]:
    if figure.series:
        yield series
    if figure.kind != "marks":
        yield int(x) if x.is_integer() else x


def _figure(of: MeasuredFigure, rows: Sequence[Row], drawn: Drawn, spots: Sequence[Row]) -> Figure:
    seeds = {name: [int(row["seeds"]) for row in rows if row["arm"] == name] for name in drawn.names}
    title = f"{of.title}, {count_of_seeds([max(counts) for counts in seeds.values() if counts])}"
    if of.kind == "bars" and len(rows) <= MOST_BARS:
        return Figure(title, of.caption, rows, bars(of, rows, drawn), height=bars_height(rows, of))
    if of.kind != "marks":
        return Figure(title, of.caption, rows, _lines(of, rows, drawn, spots))
    return Figure(
        title, of.caption, rows, _marks(of, rows, drawn), height=rows_height(len({row["arm"] for row in rows}))
    )


def _lines(of: MeasuredFigure, rows: Sequence[Row], drawn: Drawn, spots: Sequence[Row]) -> Callable[[int], Chart]:
    lines = Lines(
        [name for name in drawn.names if any(row["arm"] == name for row in rows)],
        drawn.called,
        drawn.looks,
        of.x_called,
        of.y_title,
        of.y_scale,
        dashed_by=of.series_called if of.series else None,
        kinds=of.series,
        rules=of.y_rules,
        upright=of.x_rules,
        spots=spots,
    )

    def draw(width: int) -> Chart:
        scale = alt.Scale(type=of.x_scale, nice=of.x_scale == "linear")
        x = alt.X(f"{of.x_called}:Q", title=of.x_title, axis=_x_axis(of, width), scale=scale)
        return lines_and_band(rows, lines, x, width)

    return draw


def _x_axis(of: MeasuredFigure, width: int) -> alt.Axis:
    if not of.x_names:
        ticks = width // 80
        return alt.Axis(tickCount=ticks, format="~s") if of.x_scale == "log" else alt.Axis(tickCount=ticks)
    named = "".join(f"datum.value == {float(at):g} ? {json.dumps(name)} : " for at, name in of.x_names.items())
    return alt.Axis(labelExpr=f"{named}datum.value", tickMinStep=1, tickCount=width // 60, grid=False)


def _marks(of: MeasuredFigure, rows: Sequence[Row], drawn: Drawn) -> Callable[[int], Chart]:
    def draw(width: int) -> Chart:
        data = alt.InlineData(values=list(rows))
        colour = alt.Color("arm:N", scale=colours(drawn.looks, drawn.names), legend=None)
        y = alt.Y("arm:N", sort=list(drawn.names), title=None, axis=arms_axis(drawn.names, width))
        base = alt.Chart(data).encode(y=y, color=colour)
        scale = alt.Scale(type=of.y_scale, zero=False, padding=12)
        x = alt.X("mean:Q", title=of.y_title, scale=scale, axis=alt.Axis(tickCount=width // 60))
        bars = base.mark_rule(strokeWidth=2.5).encode(x="low:Q", x2="high:Q")
        marks = base.mark_point(filled=True, size=60, opacity=1)
        if not of.series:
            return layer(bars, marks.encode(x=x))
        shapes = alt.Scale(domain=of.series, range=[SHAPES[at % len(SHAPES)] for at in range(len(of.series))])
        shape = alt.Shape(
            f"{of.series_called}:N",
            scale=shapes,
            title=None,
            legend=alt.Legend(orient="top", columns=1 if width < 400 else 0),
        )
        return layer(base.mark_line(strokeWidth=1.5, opacity=0.5).encode(x=x), bars, marks.encode(x=x, shape=shape))

    return draw
