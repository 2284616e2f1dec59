"""How every chart of assay looks: colours by name, lines with a band, quiet axes, generic fonts."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import altair as alt

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1")
"""Okabe and Ito 2008, with a violet for their yellow and black, which vanish on one of the two backgrounds."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
GREY, INK = "#888888", "#444444"

Chart: TypeAlias = alt.Chart | alt.LayerChart


def colours(names: Sequence[str]) -> alt.Scale:
    """One colour a name, the same in every chart drawn with the same `names`."""
    return alt.Scale(domain=list(names), range=[PALETTE[index % len(PALETTE)] for index in range(len(names))])


def shapes(names: Sequence[str]) -> alt.Scale:
    """One shape a name, so that colour is not the only difference."""
    return alt.Scale(domain=list(names), range=[SHAPES[index % len(SHAPES)] for index in range(len(names))])


def lines_and_band(
    data: alt.InlineData,
    names: Sequence[str],
    x: alt.X,
    y_title: str = "nats per token",
    y_scale: Literal["linear", "log"] = "linear",
    dashed_by: str | None = None,
    kinds: Sequence[str] = (),
) -> Chart:
    """A line through `mean` and a band from `low` to `high` for each architecture.

    `dashed_by` names a field of the data whose `kinds` are drawn solid, then dotted.
    """
    legend = alt.Legend(symbolOpacity=1, symbolType="square", symbolSize=90)
    colour = alt.Color("architecture:N", scale=colours(names), title=None, legend=legend)
    scale = alt.Scale(type=y_scale, zero=False)
    y = alt.Y("mean:Q", title=y_title, scale=scale, axis=alt.Axis(tickCount=6 if y_scale == "linear" else 3))
    line: dict[str, Any] = {"x": x, "y": y, "color": colour}
    band: dict[str, Any] = {"x": x, "y": alt.Y("low:Q", scale=scale), "y2": "high:Q", "color": colour}
    if dashed_by is not None:
        dashes = alt.Scale(domain=list(kinds), range=[[1, 0], [2, 3]])
        line["strokeDash"] = alt.StrokeDash(f"{dashed_by}:N", scale=dashes, title=None, legend=alt.Legend(orient="top"))
        band["detail"] = f"{dashed_by}:N"
    base = alt.Chart(data)
    return layer(base.mark_area(opacity=0.18).encode(**band), base.mark_line(strokeWidth=2).encode(**line))


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
        columns=max(1, width // 150),
        labelLimit=width // 2,
        symbolStrokeWidth=2,
        symbolBaseFillColor=GREY,
        symbolBaseStrokeColor=GREY,
    )
    specification: dict[str, Any] = chart.to_dict()
    return specification
