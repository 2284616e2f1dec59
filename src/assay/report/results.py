"""What the page says first: the question, the answer, and the rows of the results, size by size."""

from collections.abc import Sequence
from typing import NamedTuple

from assay.analysis.under_floors import in_short
from assay.analysis.wording import join_names, size_name
from assay.records import Arm, Pair, StudyRecord
from assay.report import quantities
from assay.report.answer import answer
from assay.report.columns import Cell, Column, name_cell
from assay.report.drawing.looks import Looks, looks
from assay.report.groups import asked_for, by_size

__all__ = ["SizeRows", "TableRow", "answer", "question", "size_rows"]

GRAVE = ("UNSOUND", "Not ranked", "No arm")
"""How the sentences begin that are read before all others."""


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
    what = "sequences" if "task" in study.corpus else "text"
    if len(names) == 1:
        return f"How well does {names[0]} predict {what} it has not seen, {after}?"
    return f"Which of {join_names(names)} predicts {what} it has not seen best, {after}?"


def doubts(study: StudyRecord) -> list[str]:
    """The headline: what forbids a ranking or a model comes first, also of records whose order is another."""
    return sorted(study.headline, key=lambda line: not line.startswith(GRAVE) and " not beat " not in line)


def facts(study: StudyRecord, tokens: int) -> list[str]:
    """What the question was asked of, in a line: text, tokenizer, size, tokens, seeds, date, version."""
    data = study.protocol.get("data") or {}
    corpus = data.get("task") or study.corpus.get("name") or data.get("corpus")
    tokenizer = study.corpus.get("tokenizer") or data.get("tokenizer")
    tokenizer = tokenizer.get("name") if isinstance(tokenizer, dict) else tokenizer
    sizes = [size_name(size, study.match) for size in dict.fromkeys(arm.size for arm in study.arms)]
    totals = sorted({quantities.count(arm.parameters.total) for arm in study.arms})
    seeds = max(len(arm.seeds) for arm in study.arms)
    version = study.environment.get("assay", "")
    return [
        *([f"corpus {corpus}"] if corpus else []),
        *([f"tokenizer {tokenizer}"] if tokenizer and not data.get("task") else []),
        " / ".join(sizes)
        if study.match and study.arms[0].size is not None
        else f"{' to '.join(totals[:1] + totals[1:][-1:])} parameters",
        *([f"{tokens:,} training tokens"] if tokens else []),
        f"{seeds} seed{'s' if seeds > 1 else ''}",
        *([study.concluded] if study.concluded else []),
        *([f"assay {version}"] if version else []),
    ]


def size_rows(study: StudyRecord, columns: Sequence[Column]) -> list[SizeRows]:
    """What `columns` show of each size: its arms, then what a floor or chance reaches, as far as they show that."""
    look = looks(study)
    of_floors = {
        in_short(name, floor): [column.of_floor(floor) for column in columns] for name, floor in study.floors.items()
    }
    floors = [
        TableRow("", Cell(name, "floor"), "", cells, "floor")
        for name, cells in of_floors.items()
        if any(cell.first for cell in cells)
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
