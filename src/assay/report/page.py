"""The report of a study: one page that opens without a network, and its figures and their data beside it."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from assay.analysis.wording import join_names
from assay.errors import RequestError
from assay.records import RunRecord, StudyRecord, write_whole
from assay.report import quantities
from assay.report.charts import PALETTE
from assay.report.figures import NARROW, Figure, study_figures, write
from assay.report.table import COLUMNS, Cell, name_cell

PAGE = "report.html"


class TableRow(NamedTuple):
    """One row of the results: an arm, or a floor (whose rank is None and whose colour is empty)."""

    rank: str
    name: Cell
    colour: str
    cells: Sequence[Cell]


class Drawing(NamedTuple):
    """One figure at both widths."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


class ChainRow(NamedTuple):
    """The chains of one seed, in the order of the arms, and whether those of finished runs are equal."""

    seed: int
    chains: Sequence[tuple[str, str]]
    equal: bool


def write_report(study: StudyRecord, runs: list[RunRecord], folder: Path) -> Path:
    """Write report.html and report/ (SVG and CSV of each figure) into `folder`; return the page's path.

    Both are written elsewhere first and moved, so an interrupted call leaves the old report. The same records give
    the same bytes. An arm that cheats stands in the table and in no figure.
    """
    sound = [arm for arm in study.arms if arm.unsound is None] or study.arms
    names = {arm.architecture for arm in sound}
    drawn = study.model_copy(update={"arms": sound})
    figures = study_figures(drawn, [run for run in runs if run.architecture in names])
    page = folder / PAGE
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            html = _render(study, runs, [_drawing(name, figure, new) for name, figure in figures.items()])
            if (folder / "report").exists():
                os.replace(folder / "report", old)
            os.replace(new, folder / "report")
            write_whole(page, html.encode())
    except OSError as error:
        raise RequestError(f"the report cannot be written to {folder}: {error.strerror}") from None
    return page


def _render(study: StudyRecord, runs: Sequence[RunRecord], drawings: Sequence[Drawing]) -> str:
    """The page as text; every name and value in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("assay.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html").render(
        study=study,
        names=join_names([arm.architecture for arm in study.arms]),
        question=_question(study, runs),
        answer=_answer(study),
        heads=[column.head for column in COLUMNS],
        rows=_table_rows(study),
        drawings=drawings,
        runs=_runs_in_order(study, runs),
        chains=list(_chain_rows(study, runs)),
        protocol=list(_flat(study.protocol)),
        corpus=list(_flat(study.corpus)),
        environment=list(_flat(study.environment)),
        digest=hashlib.sha256(study.content()).hexdigest(),
        quantities=quantities,
    )


def _question(study: StudyRecord, runs: Sequence[RunRecord]) -> str:
    sizes = sorted(arm.parameters.total for arm in study.arms)
    low, high = quantities.count(sizes[0]), quantities.count(sizes[-1])
    size = low if low == high else f"{low} to {high}"
    tokens = max((run.tokens for run in runs), default=0)
    after = f"after {tokens:,} training tokens and with {size} parameters" if tokens else f"with {size} parameters"
    if len(study.arms) == 1:
        return f"How well does {study.arms[0].architecture} predict text it has not seen, {after}?"
    names = join_names([arm.architecture for arm in study.arms])
    return f"Which of {names} predicts text it has not seen best, {after}?"


def _answer(study: StudyRecord) -> str:
    """The result in one sentence; how far to trust it is said by the headline under it."""
    if study.not_ranked_because is not None:
        return f"No ranking: {study.not_ranked_because}."
    first = [arm for arm in study.arms if arm.rank == 1]
    score = first[0].test
    if score is None:
        raise ValueError("an arm without scores has a rank")
    bits = score.bits_per_byte
    per_byte = f", {quantities.nats(bits.mean)} bits per byte" if bits is not None else ""
    return (
        f"{join_names([arm.architecture for arm in first])}: lowest test loss, "
        f"{quantities.nats(score.nats_per_token.mean)} nats per token (perplexity "
        f"{quantities.perplexity(score.perplexity.mean)}{per_byte})."
    )


def _table_rows(study: StudyRecord) -> list[TableRow]:
    names = sorted(arm.architecture for arm in study.arms)
    rows = []
    for arm in study.arms:
        colour = PALETTE[names.index(arm.architecture) % len(PALETTE)]
        cells = [column.of_arm(arm) for column in COLUMNS]
        rows.append(TableRow(quantities.MISSING if arm.rank is None else str(arm.rank), name_cell(arm), colour, cells))
    for name, floor in study.floors.items():
        rows.append(TableRow("", Cell(name, "floor"), "", [column.of_floor(floor) for column in COLUMNS]))
    return rows


def _drawing(name: str, figure: Figure, folder: Path) -> Drawing:
    """Write the figure and take its SVG in; the chart library has escaped every text inside."""
    wide = write(figure, folder, name)[0].read_text(encoding="utf-8")
    return Drawing(name, figure.title, figure.caption, Markup(wide), Markup(figure.svg(NARROW)))


def _runs_in_order(study: StudyRecord, runs: Sequence[RunRecord]) -> list[RunRecord]:
    order = [arm.architecture for arm in study.arms]
    return sorted(runs, key=lambda run: (order.index(run.architecture), run.seed))


def _chain_rows(study: StudyRecord, runs: Sequence[RunRecord]) -> Iterator[ChainRow]:
    by_key = {(run.architecture, run.seed): run for run in runs}
    for seed in sorted({run.seed for run in runs}):
        of_seed = [by_key.get((arm.architecture, seed)) for arm in study.arms]
        finished = {run.data_chain for run in of_seed if run is not None and run.status == "finished"}
        chains = [(run.data_chain, run.status) if run is not None else ("", "no run") for run in of_seed]
        yield ChainRow(seed, chains, len(finished) == 1)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("training.context", "256") for every leaf of nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, ", ".join(map(str, value))
        else:
            yield prefix + key, "none" if value is None else str(value)
