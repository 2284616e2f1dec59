"""The main figure: by how much one arm of a pair is better, with both intervals and a dot for each seed."""

import altair as alt

from assay.analysis.under_floors import scored_on
from assay.records import Pair, StudyRecord
from assay.report.drawing.charts import GREY, Chart, layer
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.labels import LETTER, label_expression, wrapped
from assay.report.drawing.looks import colours
from assay.report.drawing.marks import rows_height
from assay.report.drawing.series import Row, count_of_seeds
from assay.report.quantities import percent

NARROW_CHART = 400
"""Charts of fewer pixels have short titles and labels of two lines."""
MANY = 24
"""With more pairs, only those with the best arm are drawn."""


def differences(of: Drawn, pairs: list[Pair], study: StudyRecord) -> Figure | None:
    """Every pair of `pairs` whose arms are drawn, in the order of the record: the first arm is the better one."""
    shown = [pair for pair in pairs if {pair.a, pair.b} <= set(of.names)]
    if len(shown) > MANY:
        best = next(name for name in of.names if any(name in (pair.a, pair.b) for pair in shown))
        shown = [pair for pair in shown if best in (pair.a, pair.b)]
    if not shown:
        return None
    rows = [row for pair in shown for row in _rows(of, pair)]
    order = list(dict.fromkeys(str(row["pair"]) for row in rows))
    called = {_named(of, pair): (of.called[pair.a], of.called[pair.b]) for pair in shown}
    names = [name for name in of.names if any(row["better"] == name for row in rows)]

    def draw(width: int) -> Chart:
        data = alt.InlineData(values=rows)
        lines = label_expression({name: _lines(*of_pair, width) for name, of_pair in called.items()})
        axis = alt.Axis(labelLimit=width // 2, ticks=False, domain=False, labelExpr=lines)
        y = alt.Y("pair:N", sort=order, title=None, axis=axis)
        title = "better by nats per token" if width < NARROW_CHART else "nats per token by which the first is better"
        x = alt.X(
            "difference:Q", title=title, scale=alt.Scale(zero=True, padding=14), axis=alt.Axis(tickCount=width // 70)
        )
        colour = alt.Color("better:N", scale=colours(of.looks, names), legend=None)
        mean = alt.Chart(data).transform_filter("datum.kind != 'seed'").encode(y=y, color=colour)
        seeds = alt.Chart(data).transform_filter("datum.kind == 'seed'")
        over_seeds, over_texts = (
            mean.transform_filter(f"isNumber(datum.{low})").encode(x=alt.X(f"{low}:Q"), x2=f"{high}:Q")
            for low, high in (("low", "high"), ("text_low", "text_high"))
        )
        zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=GREY, strokeWidth=1.5)
        return layer(
            zero.encode(x="zero:Q"),
            over_texts.mark_rule(strokeWidth=1),
            over_seeds.mark_rule(strokeWidth=4, opacity=0.8),
            seeds.mark_point(filled=True, size=22, opacity=0.7, yOffset=11).encode(x=x, y=y, color=colour),
            mean.transform_filter("datum.kind == 'resolved'").mark_point(filled=True, size=110, opacity=1).encode(x=x),
            mean.transform_filter("datum.kind == 'open'").mark_point(filled=False, size=110, opacity=1).encode(x=x),
        )

    together = f"{percent(study.level)} interval over seeds"
    only = " Only the pairs with the best arm are drawn." if len(shown) < len(pairs) else ""
    with_texts = any(row["text_low"] != "" for row in rows)
    thin = f" The thin line is for other {scored_on(study.floors)} of the kind too." if with_texts else ""
    return Figure(
        f"Differences of pairs, {count_of_seeds([pair.n_seeds for pair in shown])}",
        f"The thick line is the {together}, of all pairs together; where it crosses zero the pair is not resolved and "
        f"its mark is hollow.{thin} A dot is one seed.{only}",
        rows,
        draw,
        height=rows_height(len(order)),
    )


def _named(of: Drawn, pair: Pair) -> str:
    return f"{of.called[pair.a]} over {of.called[pair.b]}"


def _lines(better: str, other: str, width: int) -> list[str]:
    """The pair in one line where half of `width` is enough and the page is wide, else in two."""
    if width >= NARROW_CHART and len(f"{better} over {other}") * LETTER <= width / 2:
        return [f"{better} over {other}"]
    return [*wrapped(better, width / 2, 1), *wrapped(f"over {other}", width / 2, 1)]


def _rows(of: Drawn, pair: Pair) -> list[Row]:
    """The pair, then each of its seeds; differences are b - a, so that more is in favour of a."""

    def flipped(end: float | None) -> str | float:
        return "" if end is None else -end

    common: Row = {"pair": _named(of, pair), "better": pair.a, "other": pair.b}
    empty: Row = {"low": "", "high": "", "text_low": "", "text_high": ""}
    ends: Row = {"low": flipped(pair.high), "high": flipped(pair.low)}
    ends |= {"text_low": flipped(pair.text_high), "text_high": flipped(pair.text_low)}
    kind = "resolved" if pair.resolved else "open"
    rows = [common | {"kind": kind, "seed": "", "difference": -pair.difference} | ends]
    scores: dict[str, dict[int, float]] = {pair.a: {}, pair.b: {}}
    for run in of.runs:
        if run.record.label in scores and (likelihood := run.likelihood(of.split)) is not None:
            scores[run.record.label][run.record.seed] = likelihood.nats_per_token
    for seed in sorted(scores[pair.a].keys() & scores[pair.b].keys()):
        difference = scores[pair.b][seed] - scores[pair.a][seed]
        rows.append(common | {"kind": "seed", "seed": seed, "difference": difference} | empty)
    return rows
