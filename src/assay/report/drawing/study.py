"""What people would rather look at, drawn from records: the figures of a study, for each size its own.

A line or a mark is the mean over the finished seeds of an arm, a band or a bar reaches from the lowest seed to the
highest, unless the figure says otherwise. Diverged runs are left out, and points of a grid that were not chosen appear
only where the figure says so.
"""

from collections.abc import Sequence

from assay.records import MeasuredRun, Results, StudyRecord
from assay.report.drawing.curves import loss_against_flops, loss_against_tokens
from assay.report.drawing.figure import Drawn, Figure
from assay.report.drawing.looks import Looks, looks
from assay.report.drawing.marks import scores, tuning
from assay.report.drawing.measurements import measured_figures
from assay.report.drawing.pairs import differences
from assay.report.drawing.position import difference_by_position
from assay.report.groups import SizeGroup, by_size, drawn

PAIRS = "pairs"
"""The name of the main figure; with several sizes, how those of all sizes begin."""
CHOSEN_ONLY = "Of each grid of learning rates only the chosen point is drawn."


def study_figures(study: StudyRecord, runs: Sequence[MeasuredRun], results: Results) -> dict[str, Figure]:
    """All figures that records and results have data for, by name. An arm that cheats stands in none of them.

    `results` are those of the study itself.
    """
    look = looks(study)
    found: dict[str, Figure] = {}
    for group in by_size(study):
        for name, figure in _of_size(study, group, runs, results, look).items():
            found[f"{name}-{group.name}" if group.name else name] = figure
    return found


def _of_size(
    study: StudyRecord, group: SizeGroup, runs: Sequence[MeasuredRun], results: Results, look: Looks
) -> dict[str, Figure]:
    some_sound = any(arm.unsound is None for arm in study.arms)
    arms = [arm for arm in group.arms if arm.unsound is None or not some_sound]
    names = drawn(arms)
    seeds = {arm.label: arm.seeds for arm in arms}
    finished = [
        run
        for run in runs
        if run.record.label in names and run.record.seed in seeds[run.record.label] and run.record.status == "finished"
    ]
    of = Drawn(arms, finished, names, look, study.split)
    figures = {
        PAIRS: differences(of, list(group.pairs), study),
        "loss": loss_against_tokens(of, study.floors),
        "loss-flops": loss_against_flops(of, study.floors),
        study.split: scores(of, study),
        "tuning": tuning(of),
    }
    measured = measured_figures(of, results, tuple(figures))
    if (position := difference_by_position(of, study.level)) is not None:
        measured["position"] = position
    figures |= measured
    chosen_only = CHOSEN_ONLY if len(names) < len(arms) else ""
    return {
        name: figure.about(group.heading, "" if name in (PAIRS, study.split, "tuning") else chosen_only)
        for name, figure in figures.items()
        if figure is not None
    }
