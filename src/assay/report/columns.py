"""The columns of a study's table, in a terminal and on the page: what each shows of an arm and of a floor."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from assay.records import Arm, Floor, Interval, StudyRecord
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


def study_columns(study: StudyRecord) -> Sequence[Column]:
    """All columns, with the level and the split of `study` in their heads."""
    interval = f"{quantities.percent(study.level)} interval"
    under = interval if study.split == "test" else f"validation\n{interval}"
    return (
        _score("nats_per_token", Cell("nats/token", under), quantities.nats),
        _score("perplexity", Cell("perplexity", under), quantities.perplexity),
        _score("bits_per_byte", Cell("bits/byte", under), quantities.nats),
        *_measurements(study.arms),
        *ACCOUNTED,
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


def _measurements(arms: Sequence[Arm]) -> Iterator[Column]:
    """The columns of all measurements, as the arms have them; those under another one are its second line."""
    found = {(of.measurement, of.key): of for arm in arms for of in arm.columns}
    for (name, key), of in found.items():
        if of.under:
            continue
        below = next((other for other in found.values() if (other.measurement, other.under) == (name, key)), None)
        second = below.head if below is not None else of.second
        yield _measured(Cell(of.head, second), partial(_cell, name, key, None if below is None else below.key))


def _cell(name: str, key: str, below: str | None, arm: Arm) -> Cell:
    """What a measurement shows of an arm: its value, and under it another one, or its interval or range."""
    columns = {of.key: of for of in arm.columns if of.measurement == name}
    if key not in columns:
        return Cell(MISSING)
    second = columns.get(below or "")
    return Cell(written(columns[key]), ends(columns[key]) if below is None else written(second))


ACCOUNTED: tuple[Column, ...] = (
    _measured(
        Cell("parameters", "non-embedding"),
        lambda arm: Cell(quantities.count(arm.parameters.total), quantities.count(arm.parameters.non_embedding)),
    ),
    _measured(Cell("compute", "per token"), lambda arm: Cell(quantities.flops(arm.flops_per_token))),
    _measured(Cell("state"), lambda arm: Cell(quantities.bytes_(arm.state_bytes))),
    _measured(Cell("memory", "peak"), lambda arm: Cell(quantities.bytes_(arm.peak_memory_bytes))),
)
"""What every run says of itself."""
