"""The tables of a study in a terminal, one a size: they fold where the window is narrow and never cut a number."""

import io
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from assay.analysis.under_floors import in_short
from assay.records import StudyRecord
from assay.report.columns import Cell, Column, name_cell, study_columns
from assay.report.groups import SizeGroup, by_size
from assay.report.quantities import MISSING

GAP = 2
"""Spaces between columns: the padding and the one that rich draws as a divider."""

LONGEST_NAME = 32
"""A longer name is folded, so that it does not push the numbers out."""


def study_table(study: StudyRecord) -> "StudyTable":
    """Everything a terminal shows of a study; print it with rich, or as text with `plain`."""
    return StudyTable(study)


def plain(study: StudyRecord, width: int = 100) -> str:
    """The same as text without colours, at most `width` columns wide where names allow."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(study_table(study))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


class StudyTable:
    """A rich renderable: headline; for each size a row an arm, the floors, the pairs."""

    def __init__(self, study: StudyRecord) -> None:
        self.study = study

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.study.headline:
            yield Text(line, style="bold" if line.startswith(("Not ranked", "UNSOUND")) else "")
        yield Text()
        for group in by_size(self.study):
            if group.heading:
                yield Text(f"{group.heading}\n", style="bold")
            for index, columns in enumerate(folded(self.study, options.max_width)):
                yield _table(self.study, group if index == 0 else _selected(group), columns, options.max_width)
            for pair in group.pairs:
                yield Text(pair.sentence, style="bold" if pair.resolved else "")
            if group.heading:
                yield Text()


def _selected(group: SizeGroup) -> SizeGroup:
    """Without the points that were not selected: their scores stand in the first table, the page has the rest."""
    return group._replace(arms=[arm for arm in group.arms if arm.selected is not False] or group.arms)


def folded(study: StudyRecord, width: int) -> Iterator[Sequence[Column]]:
    """The columns in as few tables as `width` allows, each of which repeats the rank and the name."""
    room = width - sum(_name_widths(study))
    taken: list[Column] = []
    used = 0
    for column in study_columns(study):
        needed = GAP + _width(study, column)
        if taken and used + needed > room:
            yield taken
            taken, used = [], 0
        taken.append(column)
        used += needed
    yield taken


def _table(study: StudyRecord, group: SizeGroup, columns: Sequence[Column], width: int) -> Table:
    rank, name = _name_widths(study)
    name = max(min(name, width - rank - sum(GAP + _width(study, column) for column in columns)), GAP + 8)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, expand=False)
    table.add_column(Text("#"), width=rank - GAP, justify="right", no_wrap=True)
    table.add_column(Text("arm"), width=name - GAP, overflow="fold")
    for column in columns:
        table.add_column(lines_of(column.head), min_width=_width(study, column), justify="right", no_wrap=True)
    for arm in group.arms:
        place = MISSING if arm.rank is None else str(arm.rank)
        cells = [name_cell(arm), *(column.of_arm(arm) for column in columns)]
        table.add_row(Text(place), *map(lines_of, cells), style="dim" if arm.selected is False else "")
    for floor_name, floor in study.floors.items():
        cells = [column.of_floor(floor) for column in columns]
        if any(cell.first for cell in cells):
            table.add_row(Text(), lines_of(Cell(f"{in_short(floor_name, floor)} floor")), *map(lines_of, cells))
    if any(column.chance.first for column in columns):
        table.add_row(Text(), Text("chance"), *(lines_of(column.chance) for column in columns))
    table.add_row()
    return table


def _name_widths(study: StudyRecord) -> tuple[int, int]:
    """Of the rank and of the name, gaps included."""
    names = [line for arm in study.arms for line in name_cell(arm).lines]
    floors = [f"{in_short(name, floor)} floor" for name, floor in study.floors.items()]
    name = max(cell_len(line) for line in ["arm", *names, *floors])
    return len(str(len(study.arms))) + GAP, min(name, LONGEST_NAME) + GAP


def _width(study: StudyRecord, column: Column) -> int:
    cells = [column.head, column.chance, *map(column.of_arm, study.arms), *map(column.of_floor, study.floors.values())]
    return max(cell_len(line) for cell in cells for line in cell.lines)


def lines_of(cell: Cell) -> Text:
    """Both lines of a cell, the second dimmed."""
    text = Text(cell.first)
    return text.append("\n").append(cell.second, style="dim") if cell.second else text
