"""What the page says first: the question, the answer, and the rows of the results, size by size."""

from collections.abc import Sequence
from typing import NamedTuple

from assay.analysis.wording import join_names
from assay.records import Arm, Pair, StudyRecord
from assay.report import quantities
from assay.report.answer import answer
from assay.report.columns import Cell, Column, name_cell, study_columns
from assay.report.drawing.looks import Looks, looks
from assay.report.groups import asked_for, by_size

__all__ = ["SizeRows", "TableRow", "answer", "question", "size_rows"]


class TableRow(NamedTuple):
    """One row of the results: an arm, or a floor (whose rank and colour are empty)."""

    rank: str
    name: Cell
    colour: str
    cells: Sequence[Cell]
    kind: str = ""
    """arm, other (a point that was not selected) or floor."""


class SizeRows(NamedTuple):
    """The rows and the pairs of one size; no heading where the study has one."""

    heading: str
    rows: Sequence[TableRow]
    pairs: Sequence[Pair]


def question(study: StudyRecord, tokens: int) -> str:
    """What the study asked, after `tokens` of training."""
    sizes = sorted(arm.parameters.total for arm in study.arms)
    low, high = quantities.count(sizes[0]), quantities.count(sizes[-1])
    size = low if low == high else f"{low} to {high}"
    after = f"after {tokens:,} training tokens and with {size} parameters" if tokens else f"with {size} parameters"
    names = asked_for(study.arms)
    if len(names) == 1:
        return f"How well does {names[0]} predict text it has not seen, {after}?"
    return f"Which of {join_names(names)} predicts text it has not seen best, {after}?"


def size_rows(study: StudyRecord) -> list[SizeRows]:
    """The results of each size: its arms, then the floors."""
    columns, look = study_columns(study), looks(study)
    floors = [
        TableRow("", Cell(name, "floor"), "", [column.of_floor(floor) for column in columns], "floor")
        for name, floor in study.floors.items()
    ]
    if any(column.chance.first for column in columns):
        floors.append(TableRow("", Cell("chance"), "", [column.chance for column in columns], "floor"))
    return [
        SizeRows(group.heading, [*(_row(arm, columns, look) for arm in group.arms), *floors], group.pairs)
        for group in by_size(study)
    ]


def _row(arm: Arm, columns: Sequence[Column], look: Looks) -> TableRow:
    rank = quantities.MISSING if arm.rank is None else str(arm.rank)
    kind = "other" if arm.selected is False else "arm"
    return TableRow(rank, name_cell(arm), look[arm.label].colour, [column.of_arm(arm) for column in columns], kind)
