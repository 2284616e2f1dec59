"""Figures of bars: a row for each part of a model, in it a bar for each arm with its interval."""

from collections.abc import Callable, Sequence

import altair as alt

from assay.records import MeasuredFigure
from assay.report.drawing.charts import GREY, Chart, layer, names_legend
from assay.report.drawing.figure import Drawn
from assay.report.drawing.looks import colours
from assay.report.drawing.series import Row

MOST_BARS = 72
"""With more the rows are too many to be looked at."""
BAR, BETWEEN = 11, 12
"""Pixels of a bar, and between two rows."""


def bars_height(rows: Sequence[Row], of: MeasuredFigure) -> int:
    """Pixels for the chart that `bars` draws of them, with its axis and legend."""
    arms = {row["arm"] for row in rows}
    return (BAR * len(arms) + BETWEEN) * len({_named(row, of) for row in rows}) + 90


def bars(of: MeasuredFigure, rows: Sequence[Row], drawn: Drawn) -> Callable[[int], Chart]:
    """From zero to `mean`, with a line from `low` to `high`; the rows go by place and then by series."""
    places = {series: at for at, series in enumerate(of.series)}
    ordered = sorted(rows, key=lambda row: (float(row[of.x_called]), places.get(str(row.get(of.series_called)), 0)))
    parts = list(dict.fromkeys(_named(row, of) for row in ordered))
    names = [name for name in drawn.names if any(row["arm"] == name for row in rows)]

    def draw(width: int) -> Chart:
        data = alt.InlineData(values=[{**row, "part": _named(row, of)} for row in rows])
        base = alt.Chart(data).encode(
            y=alt.Y("part:N", sort=parts, title=None, axis=alt.Axis(labelLimit=width // 2, ticks=False, domain=False)),
            yOffset=alt.YOffset("arm:N", sort=names),
        )
        colour = alt.Color(
            "arm:N",
            scale=colours(drawn.looks, names),
            title=None,
            legend=names_legend(names, width, symbolType="square"),
        )
        x = alt.X("mean:Q", title=of.y_title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=width // 70))
        zero = alt.Chart(alt.InlineData(values=[{"mean": 0}])).mark_rule(color=GREY).encode(x="mean:Q")
        return layer(
            base.mark_bar(opacity=0.4).encode(x=x, x2=alt.datum(0), color=colour),
            base.mark_rule(strokeWidth=2.5).encode(x="low:Q", x2="high:Q", color=colour),
            zero,
        )

    return draw


def _named(row: Row, of: MeasuredFigure) -> str:
    """ "block 0, mixer"."""
    at = f"{float(row[of.x_called]):g}"
    place = f"{of.x_called} {of.x_names.get(at, at)}"
    return f"{place}, {row[of.series_called]}" if of.series else place
