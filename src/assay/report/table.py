"""The table of a study in a terminal: folds into several tables where the window is narrow, never cuts a number."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from assay.records import Arm, Floor, Interval, StudyRecord
from assay.report import quantities
from assay.report.quantities import MISSING

GAP = 2
"""Spaces between columns: the padding and the one that rich draws as a divider."""

LONGEST_NAME = 28
"""A longer name is folded, so that it does not push the numbers out."""


class Cell(NamedTuple):
    """Two lines of one cell; the second is shown dimmed."""

    first: str
    second: str = ""


class Column(NamedTuple):
    """A column: what its two lines are, and how they are read off an arm and a floor."""

    head: Cell
    of_arm: Callable[[Arm], Cell]
    of_floor: Callable[[Floor], Cell]


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
    """A rich renderable: headline, one row an architecture, floors, pairs."""

    def __init__(self, study: StudyRecord) -> None:
        self.study = study

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.study.headline:
            yield Text(line, style="bold" if line.startswith(("Not ranked", "UNSOUND")) else "")
        yield Text()
        for columns in folded(self.study, options.max_width):
            yield _table(self.study, columns, options.max_width)
        for pair in self.study.pairs:
            yield Text(pair.sentence, style="bold" if pair.resolved else "")


def folded(study: StudyRecord, width: int) -> Iterator[Sequence[Column]]:
    """The columns in as few tables as `width` allows, each of which repeats the rank and the name."""
    room = width - sum(_name_widths(study))
    taken: list[Column] = []
    used = 0
    for column in COLUMNS:
        needed = GAP + _width(study, column)
        if taken and used + needed > room:
            yield taken
            taken, used = [], 0
        taken.append(column)
        used += needed
    yield taken


def _table(study: StudyRecord, columns: Sequence[Column], width: int) -> Table:
    rank, name = _name_widths(study)
    name = max(min(name, width - rank - sum(GAP + _width(study, column) for column in columns)), GAP + 8)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, expand=False)
    table.add_column(Text("#"), width=rank - GAP, justify="right", no_wrap=True)
    table.add_column(Text("architecture"), width=name - GAP, overflow="fold")
    for column in columns:
        table.add_column(_lines(column.head), min_width=_width(study, column), justify="right", no_wrap=True)
    for arm in study.arms:
        place = MISSING if arm.rank is None else str(arm.rank)
        table.add_row(Text(place), _lines(name_cell(arm)), *(_lines(column.of_arm(arm)) for column in columns))
    for floor_name, floor in study.floors.items():
        cells = [column.of_floor(floor) for column in columns]
        if any(cell.first for cell in cells):
            table.add_row(Text(), _lines(Cell(f"{floor_name} floor")), *map(_lines, cells))
    table.add_row()
    return table


def name_cell(arm: Arm) -> Cell:
    n = len(arm.seeds)
    if arm.unsound is not None:
        return Cell(arm.architecture, "UNSOUND")
    if arm.diverged:
        return Cell(arm.architecture, f"{arm.diverged} of {n} diverged")
    return Cell(arm.architecture, f"{n} seed{'s' if n > 1 else ''}")


def _name_widths(study: StudyRecord) -> tuple[int, int]:
    """Of the rank and of the name, gaps included."""
    names = [line for arm in study.arms for line in name_cell(arm)]
    name = max(cell_len(line) for line in ["architecture", *names, *(f"{floor} floor" for floor in study.floors)])
    return len(str(len(study.arms))) + GAP, min(name, LONGEST_NAME) + GAP


def _width(study: StudyRecord, column: Column) -> int:
    cells = [column.head, *map(column.of_arm, study.arms), *map(column.of_floor, study.floors.values())]
    return max(cell_len(line) for cell in cells for line in cell)


def _lines(cell: Cell) -> Text:
    text = Text(cell.first)
    return text.append("\n").append(cell.second, style="dim") if cell.second else text


def _score(name: str, form: Callable[[float], str]) -> Column:
    """A test score with its interval: `name` is a field of TestScores and of Floor."""

    def of_arm(arm: Arm) -> Cell:
        score: Interval | None = getattr(arm.test, name) if arm.test else None
        return Cell(MISSING) if score is None else Cell(form(score.mean), quantities.interval(score, form))

    def of_floor(floor: Floor) -> Cell:
        value: float | None = getattr(floor, name)
        return Cell(MISSING if value is None else form(value))

    heads = {"nats_per_token": "nats/token", "perplexity": "perplexity", "bits_per_byte": "bits/byte"}
    return Column(Cell(heads[name], "95% interval"), of_arm, of_floor)


def _measured(first: str, second: str, of_arm: Callable[[Arm], Cell]) -> Column:
    """A column that a floor has nothing in."""
    return Column(Cell(first, second), of_arm, lambda _: Cell(""))


COLUMNS: tuple[Column, ...] = (
    _score("nats_per_token", quantities.nats),
    _score("perplexity", quantities.perplexity),
    _score("bits_per_byte", quantities.nats),
    _measured(
        "growth",
        "w/ embedding",
        lambda arm: Cell(quantities.ratio(arm.growth_without_embedding), quantities.ratio(arm.growth_with_embedding)),
    ),
    _measured(
        "output",
        "signal",
        lambda arm: Cell((arm.output_verdict or MISSING).lower(), (arm.signal_verdict or MISSING).lower()),
    ),
    _measured(
        "parameters",
        "non-embedding",
        lambda arm: Cell(quantities.count(arm.parameters.total), quantities.count(arm.parameters.non_embedding)),
    ),
    _measured(
        "compute",
        "per token",
        lambda arm: Cell(quantities.flops(arm.flops_per_token)),
    ),
    _measured("state", "", lambda arm: Cell(quantities.bytes_(arm.state_bytes))),
    _measured(
        "training",
        "peak memory",
        lambda arm: Cell(
            quantities.rate(arm.speed.tokens_per_second if arm.speed else 0), quantities.bytes_(arm.peak_memory_bytes)
        ),
    ),
)
