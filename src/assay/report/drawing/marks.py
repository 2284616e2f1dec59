"""Figures that are marks with bars: scores with their intervals, and the choice of a learning rate."""

import altair as alt

from assay.analysis.under_floors import in_short
from assay.records import Arm, StudyRecord
from assay.report.drawing.charts import GREY, Chart, arms_axis, layer, names_legend
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.looks import colours, shapes
from assay.report.drawing.series import Row, count_of_seeds
from assay.report.quantities import percent


def scores(of: Drawn, study: StudyRecord) -> Figure | None:
    """Nats of every arm with the interval over seeds, points that were not selected hollow; floors as lines."""
    scored = [arm for arm in of.arms if arm.scores is not None]
    if not scored:
        return None
    rows = [*map(_score_row, scored)]
    for name, floor in study.floors.items():
        nats = floor.nats_per_token
        rows.append({"arm": f"{in_short(name, floor)} floor", "kind": "floor", "mean": nats, "low": nats, "high": nats})
    order, names = [str(row["arm"]) for row in rows], [arm.label for arm in scored]

    def draw(width: int) -> Chart:
        data = alt.InlineData(values=rows)
        y = alt.Y("arm:N", sort=order, title=None, axis=arms_axis(order, width))
        x = _nats_axis(width, of.split)
        colour = alt.Color("arm:N", scale=colours(of.looks, names), legend=None)
        shape = alt.Shape("arm:N", scale=shapes(of.looks, names), legend=None)
        arms = alt.Chart(data).transform_filter("datum.kind != 'floor'")
        chosen = alt.Chart(data).transform_filter("datum.kind == 'arm'")
        others = alt.Chart(data).transform_filter("datum.kind == 'not selected'")
        floors = alt.Chart(data).transform_filter("datum.kind == 'floor'")
        return layer(
            floors.mark_rule(strokeDash=[4, 4], color=GREY).encode(x=x),
            floors.mark_point(shape="diamond", filled=True, size=60, color=GREY, opacity=1).encode(x=x, y=y),
            arms.mark_rule(strokeWidth=2.5).encode(x="low:Q", x2="high:Q", y=y, color=colour),
            chosen.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour, shape=shape),
            others.mark_point(filled=False, size=60, opacity=1).encode(x=x, y=y, color=colour, shape=shape),
        )

    with_interval = any(arm.scores.nats_per_token.low is not None for arm in scored if arm.scores)
    bars = f"Bars are {percent(study.level)} intervals over seeds (Student t)."
    hollow = (
        " Hollow marks are learning rates that were not chosen." if any(a.selected is False for a in scored) else ""
    )
    return Figure(
        f"{of.split.capitalize()} nats per token, {count_of_seeds([len(arm.seeds) - arm.diverged for arm in scored])}",
        f"Further left is better. {bars if with_interval else 'One seed gives no interval.'}{hollow} Floors are models "
        "without a network, trained on the same tokens; the order of the n-gram is the best on validation text.",
        rows,
        draw,
        height=rows_height(len(rows)),
    )


def tuning(of: Drawn) -> Figure | None:
    """The grids of learning rates: what the choice went by at every point, and which one it fell on."""
    tried = [arm for arm in of.arms if arm.selected is not None and arm.learning_rate and arm.validation_nats]
    if not tried:
        return None
    first = {arm.group: of.looks[arm.label] for arm in tried}
    names = list(first)
    rows = [_tried_row(arm) for arm in sorted(tried, key=lambda arm: (names.index(arm.group), arm.learning_rate))]

    def draw(width: int) -> Chart:
        data = alt.InlineData(values=rows)
        values = sorted({float(row["learning_rate"]) for row in rows})
        axis = alt.Axis(values=values, format=".2~e")
        scale = alt.Scale(type="log", nice=False, padding=20)
        x = alt.X("learning_rate:Q", title="learning rate (log scale)", axis=axis, scale=scale)
        y = alt.Y("mean:Q", title="validation nats per token", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
        legend = names_legend(names, width)
        colour = alt.Color("group:N", scale=colours(first, names), title=None, legend=legend)
        shape = alt.Shape("group:N", scale=shapes(first, names), title=None)
        base = alt.Chart(data).encode(x=x, y=y, color=colour)
        chosen = base.transform_filter("datum.selected == 'yes'")
        return layer(
            base.mark_line(strokeWidth=1.5).encode(),
            base.mark_point(filled=True, size=45, opacity=1).encode(shape=shape),
            chosen.mark_point(filled=False, size=240, opacity=1, shape="circle", strokeWidth=2),
        )

    return Figure(
        f"Choice of the learning rate, {count_of_seeds([len(arm.seeds) for arm in tried])}",
        "Mean over seeds on the validation split at the end of training; a ring marks the chosen point. A ring at the "
        "end of its line says that a wider grid might find a better one. Points with a diverged seed are left out.",
        rows,
        draw,
    )


def _tried_row(arm: Arm) -> Row:
    rate, mean = arm.learning_rate or 0.0, arm.validation_nats or 0.0
    chosen = "yes" if arm.selected else "no"
    return {"arm": arm.label, "group": arm.group, "learning_rate": rate, "mean": mean, "selected": chosen}


def _score_row(arm: Arm) -> Row:
    if arm.scores is None:
        raise ValueError(f"{arm.label} has no scores")
    score = arm.scores.nats_per_token
    low, high = (score.mean if end is None else end for end in (score.low, score.high))
    kind = "not selected" if arm.selected is False else "arm"
    return {"arm": arm.label, "kind": kind, "mean": score.mean, "low": low, "high": high}


def _nats_axis(width: int, split: str) -> alt.X:
    scale = alt.Scale(zero=False, padding=12)
    return alt.X("mean:Q", title=f"{split} nats per token", scale=scale, axis=alt.Axis(tickCount=width // 60))


def rows_height(rows: int) -> int:
    """Pixels for so many rows of marks."""
    return 40 * rows + 20 if rows <= 8 else 24 * rows + 40
