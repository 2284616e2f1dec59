"""The figure of loss by position in the context, as differences to the best arm: what all arms share is the text."""

import altair as alt

from assay.records import Interval
from assay.report.drawing.charts import Lines, lines_and_band
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.series import intervals_over_seeds, seeds_of
from assay.report.quantities import percent


def difference_by_position(of: Drawn, level: float) -> Figure | None:
    """Of each arm to the first of `of.names`, seed by seed, with intervals of `level` over seeds.

    None with one arm, or where positions were not scored.
    """
    scores = {
        (run.record.label, run.record.seed): found
        for run in of.runs
        if (found := run.likelihood(of.split)) is not None and found.nats_by_position
    }
    best = next((name for name in of.names if any(label == name for label, _ in scores)), None)
    samples = [
        ((label, (low + high) / 2), Interval(mean=nats - reference, low=None, high=None))
        for (label, seed), found in scores.items()
        if (best, seed) in scores and found.position_edges == scores[str(best), seed].position_edges
        for low, high, nats, reference in zip(
            found.position_edges,
            found.position_edges[1:],
            found.nats_by_position,
            scores[str(best), seed].nats_by_position,
            strict=False,
        )
    ]
    rows = intervals_over_seeds(("arm", "position"), samples, "nats_per_token", level)
    names = [name for name in of.names if any(row["arm"] == name for row in rows)]
    if len(names) < 2:
        return None
    called = of.called[str(best)]
    band = "One seed gives no interval."
    if any(float(row["seeds"]) > 1 for row in rows):
        band = f"The band is Student's {percent(level)} interval over seeds of the difference, each position by itself."
    lines = Lines(names, of.called, of.looks, "position", f"nats per token more than {called}")
    return Figure(
        f"{of.split.capitalize()} nats by position, against {called}, {seeds_of([run.record for run in of.runs])}",
        f"Differences to {called}, seed by seed: where a line rises, the arm makes less of a longer context "
        f"than {called} does. {band}",
        rows,
        lambda width: lines_and_band(
            rows,
            lines,
            alt.X("position:Q", title="position in the context (tokens)", axis=alt.Axis(tickCount=width // 80)),
            width,
        ),
    )
