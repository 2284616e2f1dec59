"""A table of what was measured of runs, arms or models: a row each, the columns as their results give them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from assay.records import ArmColumn
from assay.report.columns import Cell, MeasuredColumn, measured_columns
from assay.report.table import GAP, LONGEST_NAME, lines_of


class MeasuredRow(NamedTuple):
    """What a row is of, a second line under that, and its columns."""

    name: str
    under: str
    columns: Sequence[ArmColumn]


class RowsTable:
    """A rich renderable that folds where the window is narrow and cuts no number."""

    def __init__(self, rows: Sequence[MeasuredRow]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = measured_columns([row.columns for row in self.rows])
        names = [line for row in self.rows for line in (row.name, row.under)]
        name = min(max(map(cell_len, names)), LONGEST_NAME)
        for part in _folded(columns, self.rows, options.max_width - name - GAP):
            yield self._table(part, name)

    def _table(self, columns: Sequence[MeasuredColumn], name: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, expand=False)
        table.add_column(Text(""), width=name, overflow="fold")
        for column in columns:
            width = _width(column, self.rows)
            table.add_column(lines_of(column.head), min_width=width, justify="right", no_wrap=True)
        for row in self.rows:
            cells = [Cell(row.name, row.under), *(column.of(row.columns) for column in columns)]
            table.add_row(*map(lines_of, cells))
        if any(column.floor.first for column in columns):
            table.add_row(Text("chance"), *(lines_of(column.floor) for column in columns))
        table.add_row()
        return table


def _folded(
    columns: Sequence[MeasuredColumn], rows: Sequence[MeasuredRow], room: int
) -> Iterator[Sequence[MeasuredColumn]]:
    """The columns in as few tables as the room allows."""
    taken: list[MeasuredColumn] = []
    used = 0
    for column in columns:
        needed = GAP + _width(column, rows)
        if taken and used + needed > room:
            yield taken
            taken, used = [], 0
        taken.append(column)
        used += needed
    if taken:
        yield taken


def _width(column: MeasuredColumn, rows: Sequence[MeasuredRow]) -> int:
    cells = [column.head, column.floor, *(column.of(row.columns) for row in rows)]
    return max(cell_len(line) for cell in cells for line in cell.lines)
