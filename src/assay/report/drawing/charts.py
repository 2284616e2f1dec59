"""How every chart of assay looks: lines with a band and their names at their ends, quiet axes, generic fonts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import altair as alt

from assay.report.drawing.labels import LETTER, label_expression, wrapped
from assay.report.drawing.looks import Looks, colours, shapes
from assay.report.drawing.series import Row

GREY, INK = "#888888", "#444444"
LINE = 15
"""Pixels that a label takes downwards."""
BESIDE_NAMES = 32
"""Pixels of a column of a legend that are not its name."""

Chart: TypeAlias = alt.Chart | alt.LayerChart


def lines_height(width: int) -> int:
    """Of a chart of lines, in pixels."""
    return 300 if width > 400 else 200


class Lines(NamedTuple):
    """A chart of lines with bands: for each of `names` one of each of `kinds`, drawn solid, dotted, then dashed."""

    names: Sequence[str]
    called: Mapping[str, str]
    """What stands at the end of the line of each."""
    looks: Looks
    x: str
    """The field of the data that is drawn to the right."""
    y_title: str = "nats per token"
    y_scale: Literal["linear", "log"] = "linear"
    dashed_by: str | None = None
    kinds: Sequence[str] = ()
    faded: bool = False
    """Whether the second kind is drawn pale and without a band rather than dotted."""
    start: float = -math.inf
    """What lies left of it is not drawn."""
    rules: Mapping[str, float] = {}
    """Dashed lines to the right across the chart, by name."""
    upright: Mapping[str, float] = {}
    """Dashed lines upwards, by name."""
    spots: Sequence[Row] = ()
    """Places on the lines that have a ring: arm, x and mean."""


def lines_and_band(rows: Sequence[Row], lines: Lines, x: alt.X, width: int) -> Chart:
    """A line through `mean` and a band from `low` to `high` for each arm; `x` is the axis of `lines.x`."""
    shown = [row for row in rows if float(row[lines.x]) >= lines.start]
    data = alt.InlineData(values=shown)
    low, high = y_domain(shown, lines)
    scale = alt.Scale(type=lines.y_scale, domain=[low, high], nice=False)
    ticks = alt.Axis(tickCount=6 if lines.y_scale == "linear" else 3)
    beside = [lines.called[name] for name in lines.names]
    beside = beside if max(map(len, beside)) * LETTER + 30 <= 0.4 * width else []
    legend = None if beside else names_legend(lines.names, width, symbolType="square")
    colour = alt.Color("arm:N", scale=colours(lines.looks, lines.names), title=None, legend=legend)
    line: dict[str, Any] = {"x": x, "y": alt.Y("mean:Q", title=lines.y_title, scale=scale, axis=ticks)}
    line |= {"color": colour, "detail": "arm:N"}
    band: dict[str, Any] = {"x": x, "y": alt.Y("low:Q", scale=scale), "y2": "high:Q", "color": colour}
    bands = alt.Chart(data)
    if lines.dashed_by is not None:
        line |= _kinds(lines)
        band["detail"] = f"{lines.dashed_by}:N"
        if lines.faded:
            bands = bands.transform_filter(alt.datum[lines.dashed_by] == lines.kinds[0])
    charts = [bands.mark_area(opacity=0.18).encode(**band), alt.Chart(data).mark_line(strokeWidth=2).encode(**line)]
    charts += _rules(lines.rules, scale, min((float(row[lines.x]) for row in shown), default=0.0))
    charts += _upright(lines, x, scale, high)
    if lines.spots:
        rings = alt.Chart(alt.InlineData(values=list(lines.spots))).mark_point(size=90, strokeWidth=2.5, opacity=1)
        charts.append(rings.encode(x=x, y=alt.Y("mean:Q", title=lines.y_title, scale=scale), color=colour))
    charts += _names_at_ends(shown, lines, scale, (low, high), lines_height(width)) if beside else []
    return layer(*charts).properties(padding=_padding(beside))


def y_domain(rows: Sequence[Row], lines: Lines) -> tuple[float, float]:
    """What bands, lines and rules reach over, and a little more."""
    ends = [float(row[end]) for row in rows for end in ("low", "high")] + list(lines.rules.values())
    if lines.y_scale == "log":
        low, high = math.log(min(ends)), math.log(max(ends))
        room = 0.04 * (high - low) or 0.1
        return math.exp(low - room), math.exp(high + room)
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 0.1
    return low - room, high + room


def _kinds(lines: Lines) -> dict[str, Any]:
    """How the kinds of lines are told apart."""
    top = alt.Legend(orient="top", symbolSize=700)  # long enough for two dashes
    if lines.faded:
        pale = alt.Scale(domain=list(lines.kinds), range=[1, 0.35])
        return {"opacity": alt.Opacity(f"{lines.dashed_by}:N", scale=pale, title=None, legend=top)}
    dashes = alt.Scale(domain=list(lines.kinds), range=[[1, 0], [2, 3], [8, 4]])
    return {"strokeDash": alt.StrokeDash(f"{lines.dashed_by}:N", scale=dashes, title=None, legend=top)}


def _rules(rules: Mapping[str, float], scale: alt.Scale, left: float) -> list[alt.Chart]:
    """The rules, with their names above their left ends."""
    if not rules:
        return []
    rows = [{"left": left, "across": at, "name": name} for name, at in rules.items()]
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("across:Q", scale=scale))
    text = base.mark_text(align="left", dx=4, dy=-7, color=INK, fontSize=11)
    return [
        base.mark_rule(strokeDash=[4, 4], color=GREY),
        text.encode(x="left:Q", text="name:N"),
    ]


def _upright(lines: Lines, x: alt.X, scale: alt.Scale, top: float) -> list[alt.Chart]:
    """The rules upwards, with their names at the top, to their left."""
    if not lines.upright:
        return []
    rows = [{lines.x: at, "top": top, "name": name} for name, at in lines.upright.items()]
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x)
    text = base.mark_text(align="right", dx=-4, dy=7, color=INK, fontSize=11)
    return [
        base.mark_rule(strokeDash=[4, 4], color=GREY),
        text.encode(y=alt.Y("top:Q", scale=scale), text="name:N"),
    ]


def _names_at_ends(
    rows: Sequence[Row], lines: Lines, scale: alt.Scale, domain: tuple[float, float], height: int
) -> list[alt.Chart]:
    """A mark and the name of its arm at the end of every first line, moved up or down where names would overlap."""
    ends: dict[str | float, Row] = {}
    for row in rows:
        if lines.dashed_by is None or row[lines.dashed_by] == lines.kinds[0]:
            before = ends.get(row["arm"])
            ends[row["arm"]] = row if before is None or float(row[lines.x]) >= float(before[lines.x]) else before
    form, back = (math.log, math.exp) if lines.y_scale == "log" else (float, float)
    low, high = map(form, domain)
    labels: list[Row] = []
    for at in sorted({float(row[lines.x]) for row in ends.values()}):
        mine = sorted((row for row in ends.values() if float(row[lines.x]) == at), key=lambda row: float(row["mean"]))
        places = _apart([(form(float(row["mean"])) - low) / (high - low) * height for row in mine], height)
        labels += [
            {
                "arm": row["arm"],
                "called": lines.called[str(row["arm"])],
                "end": at,
                "height": back(low + place / height * (high - low)),
            }
            for row, place in zip(mine, places, strict=True)
        ]
    base = alt.Chart(alt.InlineData(values=labels)).encode(x="end:Q", y=alt.Y("height:Q", scale=scale))
    shape = alt.Shape("arm:N", scale=shapes(lines.looks, lines.names), legend=None)
    colour = alt.Color("arm:N", scale=colours(lines.looks, lines.names), legend=None)
    return [
        base.mark_point(filled=True, size=50, opacity=1, xOffset=9).encode(color=colour, shape=shape),
        base.mark_text(align="left", dx=17, color=INK, fontSize=12).encode(text="called:N"),
    ]


def _apart(places: Sequence[float], height: int) -> list[float]:
    """Ascending `places` in pixels, moved as little as needed to lie a line apart, and not above the height."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE) if moved else place)
    shift = sum(at - place for at, place in zip(moved, places, strict=True)) / max(len(moved), 1)
    moved = [at - shift for at in moved]
    over = max(0.0, moved[-1] - height) if moved else 0.0
    return [at - over for at in moved]


def _padding(names: Sequence[str]) -> dict[str, float]:
    """Around a chart whose lines end in these names."""
    right = 30 + LETTER * max(map(len, names)) if names else 4
    return {"left": 4, "right": right, "top": 4, "bottom": 4}


def log_ticks(low: float, high: float, width: int) -> list[float]:
    """1, 2 and 5 times powers of ten between the ends, and the last value itself, as far as they have room."""
    found = [high]
    at = [digit * 10.0**power for power in range(math.floor(math.log10(low)), 20) for digit in (1, 2, 5)]
    apart = math.log(high / low) * 40 / max(width, 1)
    for tick in sorted((tick for tick in at if low <= tick < high), reverse=True):
        if math.log(found[-1] / tick) >= apart:
            found.append(tick)
    return sorted(found)


def arms_axis(names: Sequence[str], width: int) -> alt.Axis:
    """The axis of a chart with a row for each of `names`; they take a third of `width`."""
    lines = label_expression({name: wrapped(name, width / 3) for name in names})
    return alt.Axis(labelExpr=lines, labelLimit=width / 2)


def names_legend(names: Sequence[str], width: int, **look: Any) -> alt.Legend:
    """A legend of `width` pixels: as many of `names` beside each other as there is room for, long ones in lines."""
    columns = max(1, width // (7 * max(map(len, names)) + BESIDE_NAMES))
    room = width - BESIDE_NAMES if columns == 1 else width
    shown = label_expression({name: wrapped(name, room) for name in names})
    return alt.Legend(
        symbolOpacity=1, symbolSize=90, columns=columns, labelExpr=shown, labelLimit=width - BESIDE_NAMES // 2, **look
    )


def layer(*charts: alt.Chart) -> alt.LayerChart:
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
