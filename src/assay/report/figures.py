"""What people would rather look at, drawn from records: the figures of a study, for each size its own.

A line or a mark is the mean over the finished seeds of an arm, a band or a bar reaches from the lowest seed to the
highest, unless the figure says otherwise. Diverged runs are left out, and points of a grid that were not chosen appear
only where the figure says so.
"""

from collections.abc import Sequence

from assay.records import RunRecord, StudyRecord
from assay.report.curves import growth_by_depth, loss_against_tokens, nats_by_position
from assay.report.figure import Drawn, Figure
from assay.report.groups import SizeGroup, by_size, drawn
from assay.report.looks import Looks, looks
from assay.report.marks import recall_and_other, scores, tuning

CHOSEN_ONLY = "Of each grid of learning rates only the chosen point is drawn."


def study_figures(study: StudyRecord, runs: Sequence[RunRecord]) -> dict[str, Figure]:
    """All figures that the records have data for, by name. An arm that cheats stands in none of them."""
    look = looks(study)
    found: dict[str, Figure] = {}
    for group in by_size(study):
        for name, figure in _of_size(study, group, runs, look).items():
            found[f"{name}-{group.name}" if group.name else name] = figure
    return found


def _of_size(study: StudyRecord, group: SizeGroup, runs: Sequence[RunRecord], look: Looks) -> dict[str, Figure]:
    some_sound = any(arm.unsound is None for arm in study.arms)
    arms = [arm for arm in group.arms if arm.unsound is None or not some_sound]
    names = drawn(arms)
    seeds = {arm.label: arm.seeds for arm in arms}
    finished = [run for run in runs if run.label in names and run.seed in seeds[run.label] and run.status == "finished"]
    of = Drawn(arms, finished, names, look, study.split)
    figures = {
        "loss": loss_against_tokens(of),
        study.split: scores(of, study),
        "tuning": tuning(of),
        "growth": growth_by_depth(of),
        "position": nats_by_position(of),
        "recall": recall_and_other(of),
    }
    chosen_only = CHOSEN_ONLY if len(names) < len(arms) else ""
    return {
        name: figure.about(group.heading, "" if name in (study.split, "tuning") else chosen_only)
        for name, figure in figures.items()
        if figure is not None
    }
