"""The figures of a gate: loss along each arm's sizes and budgets, and the gain at each size with its interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import altair as alt

from assay.analysis.gate.budgets import budget_curve
from assay.analysis.statistics import mean_interval
from assay.analysis.wording import short
from assay.records.gate import GainRecord, GateRecord
from assay.report.drawing.charts import GREY, Chart, layer, names_legend
from assay.report.drawing.figure import Figure
from assay.report.drawing.looks import PALETTE
from assay.report.drawing.series import Row

Cost = Literal["flops", "parameters", "tokens", "seconds", "state_bytes"]
COSTS: dict[Cost, str] = {
    "flops": "training FLOPs of a run",
    "parameters": "parameters",
    "tokens": "training tokens",
    "seconds": "seconds of training on this machine",
    "state_bytes": "bytes of state",
}
"""What a loss is drawn against, and how the axis is called."""
WIDEST = 8.0
"""Gains beyond so many times are drawn at the edge: an interval without an end goes there."""
MARGIN = 0.04
"""Of the width of the figure of gains, left free on both sides."""


def gate_colours(record: GateRecord) -> dict[str, str]:
    """Arm -> colour, the baseline's first."""
    names = list(dict.fromkeys([record.baseline, *(arm.label for arm in record.arms)]))
    return {name: PALETTE[at % len(PALETTE)] for at, name in enumerate(names)}


def ladder_figure(record: GateRecord, cost: Cost) -> Figure | None:
    """Mean loss with its interval over seeds against a cost, both logarithmic, a dot for each seed.

    None where fewer than two different costs are known, as of a state that does not grow.
    """
    arms = [arm for arm in record.arms if arm.losses and getattr(arm, cost)]
    if len({getattr(arm, cost) for arm in arms}) < 2:
        return None
    rows = [row for arm in arms for row in _rows(arm.label, arm.size, float(getattr(arm, cost)), arm.losses)]
    return Figure(
        "Loss along the sizes" if cost == "flops" else f"Loss against {COSTS[cost]}",
        "Each line is one arm, its large dots the means over seeds with 95% intervals, its small ones the seeds. To "
        "the left of the baseline's line is better: the same loss for less. The baseline goes one size further.",
        rows,
        _losses(record, rows, COSTS[cost], "arm"),
    )


def budget_figure(record: GateRecord) -> Figure | None:
    """Mean loss with its interval over seeds against tokens, a line for each arm and size; None without branches."""
    points = [point for point in budget_curve(record) if point.losses]
    rows = [row for of in points for row in _rows(of.arm, of.size, float(of.tokens), of.losses)]
    if not rows:
        return None
    return Figure(
        "Loss against training tokens, at several budgets",
        "Each line is one arm at one size, which stands at its end, from the smallest budget to the whole one; large "
        "dots are means over seeds with 95% intervals, small ones the seeds. Budgets of one run share its first steps.",
        rows,
        _losses(record, rows, COSTS["tokens"], "size"),
    )


def _rows(arm: str, size: int, cost: float, losses: Mapping[int, float]) -> list[Row]:
    """The mean with its interval, then the seeds."""
    of = mean_interval(list(losses.values()))
    point: Row = {"arm": arm, "size": short(size), "cost": cost}
    low, high = of.low, of.high
    if low is None or high is None or low <= 0 or len(losses) < 3:  # two seeds have no spread to draw
        low = high = of.mean
    seeds: list[Row] = [
        {**point, "kind": "seed", "seed": str(seed), "nats": loss, "low": "", "high": ""}
        for seed, loss in losses.items()
    ]
    return [{**point, "kind": "mean", "seed": "", "nats": of.mean, "low": low, "high": high}, *seeds]


def _losses(
    record: GateRecord, rows: Sequence[Row], title: str, line: Literal["arm", "size"]
) -> Callable[[int], Chart]:
    """Losses against a cost, both logarithmic; a line is an arm, or an arm at one size, which stands at its end."""
    names = list(dict.fromkeys(str(row["arm"]) for row in rows))
    scale = _scale(gate_colours(record), names)

    def draw(width: int) -> Chart:
        data = alt.Chart(alt.InlineData(values=list(rows)))
        x = alt.X(
            "cost:Q",
            title=title,
            scale=alt.Scale(type="log"),
            axis=alt.Axis(tickCount=4, format="~e"),
        )
        y = alt.Y("nats:Q", title="test nats per token", scale=alt.Scale(type="log", zero=False, nice=False))
        colour = alt.Color("arm:N", scale=scale, title=None, legend=names_legend(names, width, symbolType="stroke"))
        means = data.transform_filter("datum.kind == 'mean'")
        last = means.transform_joinaggregate(end="max(cost)", groupby=["arm", "size"]).transform_filter(
            "datum.cost == datum.end"
        )
        sizes = last.mark_text(align="left", dx=7, fontSize=11).encode(x=x, y=y, color=colour, text="size:N")
        return layer(
            *([sizes] if line == "size" else []),
            means.mark_rule(strokeWidth=2, opacity=0.5).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
            means.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, detail=f"{line}:N"),
            means.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour),
            data.transform_filter("datum.kind == 'seed'")
            .mark_point(size=14, opacity=0.7)
            .encode(x=x, y=y, color=colour),
        )

    return draw


def gain_figure(record: GateRecord, per: str) -> Figure | None:
    """The gain of every candidate at every size, with its interval."""
    rows: list[Row] = []
    drawn: list[tuple[float, float]] = []
    for verdict in record.verdicts:
        for gain in verdict.gains:
            if gain.per != per or (gain.factor is None and gain.low is None and gain.high is None):
                continue
            low, high = (_within(end, side) for end, side in ((gain.low, 1 / WIDEST), (gain.high, WIDEST)))
            drawn.append((low, high))
            rows.append(
                {
                    "arm": verdict.label,
                    "size": short(gain.size),
                    "what": f"{verdict.label} at {short(gain.size)}",
                    "gain": _drawn(gain, low, high),
                    "low": low,
                    "high": high,
                    "extrapolated": gain.extrapolated or "",
                }
            )
    if not rows:
        return None
    order = [str(row["what"]) for row in rows]
    scale = _scale(gate_colours(record), list(dict.fromkeys(str(row["arm"]) for row in rows)))

    ends = [1.0, *(end for low, high in drawn for end in (low, high))]
    room = (max(ends) / min(ends)) ** MARGIN  # so that an interval does not look cut off at the frame
    shown = [min(ends) / room, max(ends) * room]

    def draw(width: int) -> Chart:
        data = alt.Chart(alt.InlineData(values=rows))
        y = alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=width // 2, ticks=False, domain=False))
        across = alt.Scale(type="log", nice=False, domain=shown)
        x = alt.X("gain:Q", title="gain, times", scale=across, axis=alt.Axis(tickCount=5))
        colour = alt.Color("arm:N", scale=scale, legend=None)
        one = alt.Chart(alt.InlineData(values=[{"one": 1}])).mark_rule(color=GREY, strokeWidth=1.5)
        return layer(
            one.encode(x="one:Q"),
            data.mark_rule(strokeWidth=4, opacity=0.8).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour),
            data.transform_filter("isNumber(datum.gain)")
            .mark_point(filled=True, size=110, opacity=1)
            .encode(x=x, y=y, color=colour),
        )

    return Figure(
        "Gain over the baseline, by size",
        f"By what factor the baseline's compute must grow to reach the same loss: right of 1 is better. An interval "
        f"that ends at {WIDEST:g} or 1/{WIDEST:g} goes further, or has no end.",
        rows,
        draw,
        height=60 + 34 * len(rows),
    )


def _drawn(gain: GainRecord, low: float, high: float) -> float | str:
    """Where the mark stands: none where the gain is not told, but for one whose interval lies beyond what is drawn."""
    if gain.factor is not None:
        return _within(gain.factor, gain.factor)
    return low if low == high else ""


def _within(value: float | None, missing: float) -> float:
    value = missing if value is None else value
    return min(max(value, 1 / WIDEST), WIDEST)


def _scale(colours: Mapping[str, str], names: Sequence[str]) -> alt.Scale:
    shown = list(dict.fromkeys(names))
    return alt.Scale(domain=shown, range=[colours[name] for name in shown])
