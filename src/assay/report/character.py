"""The section of a study's page that says in words what its arms are like inside, size by size."""

from collections.abc import Sequence

from assay.analysis.character.character import Character, character_of
from assay.records import MeasuredRun, StudyRecord
from assay.report.groups import by_size, drawn


def characters(study: StudyRecord, runs: Sequence[MeasuredRun]) -> list[Character]:
    """Of each size of which something was asked; of the arms that figures show: none that cheats, of grids the best."""
    found = []
    for group in by_size(study):
        some_sound = any(arm.unsound is None for arm in group.arms)
        arms = [arm for arm in group.arms if arm.unsound is None or not some_sound]
        seeds = {arm.label: arm.seeds for arm in arms if arm.label in drawn(arms)}
        of = [run for run in runs if run.record.seed in seeds.get(run.record.label, [])]
        one = character_of(of, group.heading)
        found += [] if one is None else [one]
    return found
