"""How every chart of assay looks: lines with a band, quiet axes, generic fonts."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import altair as alt

from assay.report.drawing.looks import Looks, colours, crowded, shapes

GREY, INK = "#888888", "#444444"

Chart: TypeAlias = alt.Chart | alt.LayerChart


class Lines(NamedTuple):
    """A chart of lines with bands: for each of `names` one of each of `kinds`, drawn solid, then dotted."""

    names: Sequence[str]
    looks: Looks
    x: str
    """The field of the data that is drawn to the right."""
    y_title: str = "nats per token"
    y_scale: Literal["linear", "log"] = "linear"
    dashed_by: str | None = None
    kinds: Sequence[str] = ()


def lines_and_band(data: alt.InlineData, lines: Lines, x: alt.X, width: int) -> Chart:
    """A line through `mean` and a band from `low` to `high` for each arm; `x` is the axis of `lines.x`."""
    many = crowded(lines.names)
    symbol: dict[str, Any] = {} if many else {"symbolType": "square"}
    legend = alt.Legend(symbolOpacity=1, symbolSize=90, columns=legend_columns(lines.names, width), **symbol)
    colour = alt.Color("arm:N", scale=colours(lines.looks, lines.names), title=None, legend=legend)
    scale = alt.Scale(type=lines.y_scale, zero=False)
    ticks = alt.Axis(tickCount=6 if lines.y_scale == "linear" else 3)
    y = alt.Y("mean:Q", title=lines.y_title, scale=scale, axis=ticks)
    line: dict[str, Any] = {"x": x, "y": y, "color": colour}
    band: dict[str, Any] = {"x": x, "y": alt.Y("low:Q", scale=scale), "y2": "high:Q", "color": colour}
    if lines.dashed_by is not None:
        dashes = alt.Scale(domain=list(lines.kinds), range=[[1, 0], [2, 3]])
        top = alt.Legend(orient="top")
        line["strokeDash"] = alt.StrokeDash(f"{lines.dashed_by}:N", scale=dashes, title=None, legend=top)
        band["detail"] = f"{lines.dashed_by}:N"
    base = alt.Chart(data)
    charts = [base.mark_area(opacity=0.18).encode(**band), base.mark_line(strokeWidth=2).encode(**line)]
    if many:
        charts.append(_ends(data, lines, {"x": x, "y": y, "color": colour}))
    return layer(*charts)


def _ends(data: alt.InlineData, lines: Lines, encoding: dict[str, Any]) -> alt.Chart:
    """A mark in the shape of its arm at the end of every solid line."""
    ends: alt.Chart = alt.Chart(data)
    if lines.dashed_by is not None:
        ends = ends.transform_filter(f"datum.{lines.dashed_by} == '{lines.kinds[0]}'")
    ends = ends.transform_joinaggregate(last=f"max({lines.x})", groupby=["arm"])
    ends = ends.transform_filter(f"datum.{lines.x} == datum.last")
    shape = alt.Shape("arm:N", scale=shapes(lines.looks, lines.names), title=None)
    marks: alt.Chart = ends.mark_point(filled=True, size=70, opacity=1).encode(**encoding, shape=shape)
    return marks


def legend_columns(names: Sequence[str], width: int) -> int:
    """How many of `names` stand beside each other in a legend of `width` pixels."""
    return max(1, width // (7 * max(map(len, names)) + 32))


def layer(*charts: alt.Chart) -> Chart:
    """The charts on top of each other, first at the bottom."""
    return alt.LayerChart(layer=list(charts))


def styled(chart: Chart, width: int) -> dict[str, Any]:
    """The Vega-Lite specification of `chart`, fit for `width` pixels. A page may recolour its text, axes and grid."""
    text: dict[str, Any] = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    ink: dict[str, Any] = {"labelColor": INK, "titleColor": INK}
    chart = chart.configure(font="sans-serif", background="white", aria=False, padding=4)
    chart = chart.configure_view(strokeWidth=0).configure_title(fontSize=15, fontWeight=600, color="#222222")
    chart = chart.configure_axis(
        **text, **ink, gridColor="#e4e4e4", domainColor=GREY, tickColor=GREY, labelLimit=width // 3
    )
    chart = chart.configure_legend(
        **text,
        **ink,
        orient="bottom",
        labelLimit=width // 2,
        symbolStrokeWidth=2,
        symbolBaseFillColor=GREY,
        symbolBaseStrokeColor=GREY,
    )
    specification: dict[str, Any] = chart.to_dict()
    return specification
