"""The columns of a study's table, in a terminal and on the page: what each shows of an arm and of a floor."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from assay.records import Arm, ArmColumn, Floor, Interval, Match, StudyRecord
from assay.report import quantities
from assay.report.quantities import MISSING, ends, written


class Cell(NamedTuple):
    """The first line of a cell and what stands under it, dimmed: a line or several."""

    first: str
    second: str = ""

    @property
    def lines(self) -> list[str]:
        """All of them."""
        return [self.first, *self.second.split("\n")]


class Column(NamedTuple):
    """A column: what its lines are, and how they are read off an arm and a floor."""

    head: Cell
    of_arm: Callable[[Arm], Cell]
    of_floor: Callable[[Floor], Cell]
    chance: Cell = Cell("")
    """What a measurement says that chance, or a model without skill, reaches."""
    measurement: str = ""
    key: str = ""
    """Those of the measurement that it is of; empty for scores and counts."""


def study_columns(study: StudyRecord) -> Sequence[Column]:
    """All columns, with the level and the split of `study` in their heads."""
    interval = f"{quantities.percent(study.level)} interval"
    under = interval if study.split == "test" else f"validation\n{interval}"
    return (
        _score("nats_per_token", Cell("nats/token", under), quantities.nats),
        _score("perplexity", Cell("perplexity", under), quantities.perplexity),
        _score("bits_per_byte", Cell("bits/byte", under), quantities.nats),
        *(_of_arms(column) for column in measured_columns([arm.columns for arm in study.arms])),
        *accounted(study.match),
    )


def name_cell(arm: Arm) -> Cell:
    """The label; under it the architecture where that is another word, how its seeds fared, whether it was chosen."""
    n = len(arm.seeds)
    if arm.unsound is not None:
        fared = "UNSOUND"
    elif arm.diverged:
        fared = f"{arm.diverged} of {n} diverged"
    else:
        fared = f"{n} seed{'s' if n > 1 else ''}"
    words = [] if arm.label == arm.architecture else [arm.architecture]
    lines = [", ".join([*words, fared])]
    if arm.selected is not None:
        scored = "" if arm.validation_nats is None else f" (validation {quantities.nats(arm.validation_nats)})"
        lines.append(f"{'selected' if arm.selected else 'not selected'}{scored}")
    return Cell(arm.label, "\n".join(lines))


def _score(name: str, head: Cell, form: Callable[[float], str]) -> Column:
    """A score with its interval: `name` is a field of TestScores and of Floor."""

    def of_arm(arm: Arm) -> Cell:
        score: Interval | None = getattr(arm.scores, name) if arm.scores else None
        return Cell(MISSING) if score is None else Cell(form(score.mean), quantities.interval(score, form))

    def of_floor(floor: Floor) -> Cell:
        value: float | None = getattr(floor, name)
        return Cell(MISSING if value is None else form(value))

    return Column(head, of_arm, of_floor)


def _measured(head: Cell, of_arm: Callable[[Arm], Cell]) -> Column:
    """A column that a floor has nothing in."""
    return Column(head, of_arm, lambda _: Cell(""))


class MeasuredColumn(NamedTuple):
    """A column of a measurement: what its lines are, and how they are read off the columns of an arm."""

    head: Cell
    of: Callable[[Sequence[ArmColumn]], Cell]
    floor: Cell
    """What chance reaches; empty where the measurement does not say."""
    measurement: str
    key: str


def _of_arms(column: MeasuredColumn) -> Column:
    shown = _measured(column.head, lambda arm: column.of(arm.columns))
    return shown._replace(chance=column.floor, measurement=column.measurement, key=column.key)


def measured_columns(rows: Sequence[Sequence[ArmColumn]]) -> list[MeasuredColumn]:
    """The columns of all measurements, as the rows have them; those under another one are its second line."""
    found = {(column.measurement, column.key): column for row in rows for column in row}
    columns = []
    for (name, key), column in found.items():
        if column.under:
            continue
        below = next((other for other in found.values() if (other.measurement, other.under) == (name, key)), None)
        second = below.head if below is not None else column.second
        floor = "" if column.floor is None else quantities.FORMS[column.format](column.floor)
        of = partial(_cell, name, key, None if below is None else below.key)
        columns.append(MeasuredColumn(Cell(column.head, second), of, Cell(floor), name, key))
    return columns


def _cell(name: str, key: str, below: str | None, row: Sequence[ArmColumn]) -> Cell:
    """What a measurement shows in a row: its value, and under it another one, else its interval or range."""
    columns = {column.key: column for column in row if column.measurement == name}
    if key not in columns:
        return Cell(MISSING)
    second = columns.get(below or "")
    if below is None or (second is not None and second.value is None and second.text is None and ends(columns[key])):
        return Cell(written(columns[key]), ends(columns[key]))
    return Cell(written(columns[key]), written(second))


def accounted(match: Match | None) -> tuple[Column, ...]:
    """What every run says of itself; beside all parameters those of blocks and head, where arms are matched in them."""
    return (
        _blocks_and_head() if match == "blocks+head" else _non_embedding(),
        _measured(
            Cell("compute", "state"),
            lambda arm: Cell(quantities.flops(arm.flops_per_token), quantities.bytes_(arm.state_bytes)),
        ),
        _measured(Cell("memory", "peak"), lambda arm: Cell(quantities.bytes_(arm.peak_memory_bytes))),
    )


def _non_embedding() -> Column:
    return _measured(
        Cell("parameters", "non-embedding"),
        lambda arm: Cell(quantities.count(arm.parameters.total), quantities.count(arm.parameters.non_embedding)),
    )


def _blocks_and_head() -> Column:
    def cell(arm: Arm) -> Cell:
        matched = arm.parameters.blocks_and_head
        second = MISSING if matched is None else quantities.count(matched)
        return Cell(quantities.count(arm.parameters.total), second)

    return _measured(Cell("parameters", "blocks+head"), cell)
