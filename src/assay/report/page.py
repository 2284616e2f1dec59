"""The report of a study: one page that opens without a network, and its figures and their data beside it."""

import base64
import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from assay.analysis.character import fusion
from assay.analysis.wording import join_names
from assay.errors import RequestError
from assay.records import MeasuredRun, Results, StudyRecord, write_whole
from assay.records.samples import Samples, read_samples
from assay.report import exported, quantities, sheets
from assay.report.character import sections
from assay.report.columns import Cell, Column
from assay.report.diagnostics import diagnostic_columns, meanings, result_columns
from assay.report.drawing.figure import NARROW, Figure, write
from assay.report.drawing.study import PAIRS, study_figures
from assay.report.groups import asked_for
from assay.report.results import SizeRows, answer, doubts, facts, question, size_rows

PAGE = "report.html"
TABLES = {"Markdown": ("results.md", exported.markdown), "LaTeX": ("results.tex", exported.latex)}
"""The main table as files in report/."""
P_VALUES = {
    "simultaneous": "Of studies with arms alike a share of at most {} has a pair as far apart as this one.",
    "holm": "Paired t over seeds, p = {} after Holm's correction.",
    "none": "Paired t over seeds, p = {} without a correction for other pairs.",
}
"""What a pair's p says, by the way in which several pairs were allowed for."""


ROLES = re.compile(r' role="graphics-\w+" aria-roledescription="[^"]*"(?: aria-label="[^"]*")?')
"""What a chart says of its parts: on the page it is one image with a name."""


class Drawing(NamedTuple):
    """One figure at both widths."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


class Shown(NamedTuple):
    """A table of arms: the heads of its columns, and its rows size by size."""

    heads: Sequence[Cell]
    groups: Sequence[SizeRows]


def write_report(study: StudyRecord, runs: Sequence[MeasuredRun], results: Results, folder: Path) -> Path:
    """Write report.html and report/ (SVG and CSV of each figure, the main table) into `folder`; return the page's path.

    Both are written elsewhere first and moved, so an interrupted call leaves the old report. The same records give
    the same bytes. Of `runs` only those are used that the study's record is about: its folder may hold newer ones.
    `results` are those of the study itself. The samples that lie in `folder` are shown.
    """
    runs = runs_in_order(study, runs)
    figures = study_figures(study, runs, results)
    page = folder / PAGE
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            drawings = [_drawing(name, figure, new) for name, figure in figures.items()]
            for name, form in TABLES.values():
                write_whole(new / name, form(study).encode())
            html = _render(study, runs, drawings, read_samples(folder), _digest(study, folder))
            if (folder / "report").exists():
                os.replace(folder / "report", old)
            os.replace(new, folder / "report")
            write_whole(page, html.encode())
    except OSError as error:
        raise RequestError(f"the report cannot be written to {folder}: {error.strerror}") from None
    return page


def runs_in_order(study: StudyRecord, runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Those of `runs` that the study's record is about, in the order of its arms and seeds."""
    order = {(arm.label, seed): (index, seed) for index, arm in enumerate(study.arms) for seed in arm.seeds}
    by_key = {(run.record.label, run.record.seed): run for run in runs}
    return [by_key[key] for key in sorted(order.keys() & by_key.keys(), key=lambda key: order[key])]


def _digest(study: StudyRecord, folder: Path) -> str:
    """SHA-256 of study.json: of the file that holds this record, of an older version it may be, or will hold it."""
    path, content = folder / "study.json", study.content()
    if path.exists() and StudyRecord.read(path) == study:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _render(
    study: StudyRecord,
    measured: Sequence[MeasuredRun],
    drawings: Sequence[Drawing],
    written: Samples | None,
    digest: str,
) -> str:
    """The page as text; every name and value in it is escaped."""
    runs = [run.record for run in measured]
    tokens = max((run.tokens for run in runs), default=0)
    diagnostics = diagnostic_columns(study)
    by_name = {drawing.name: drawing for drawing in drawings}
    character = sections(study, measured, list(by_name))
    apart = {asked.figure for section in character for asked in section.asked}
    return page_template("report.html").render(
        study=study,
        names=join_names(asked_for(study.arms)),
        question=question(study, tokens),
        answer=answer(study),
        facts=facts(study, tokens),
        doubts=doubts(study),
        results=_shown(study, result_columns(study)),
        diagnostics=_shown(study, diagnostics) if diagnostics else None,
        meanings=meanings(study, diagnostics),
        main=[drawing for drawing in drawings if drawing.name.split("-")[0] == PAIRS],
        character=character,
        by_name=by_name,
        rules=fusion.RULES,
        drawings=[of for of in drawings if of.name.split("-")[0] != PAIRS and of.name not in apart],
        tables=[(title, name, form(study)) for title, (name, form) in TABLES.items()],
        written=written,
        samples=[] if written is None else sheets.samples(study, written),
        audits=sheets.audits(study),
        measured=sheets.measured(study),
        chains=sheets.chains(study, runs),
        runs=sheets.runs(study, measured),
        added=sheets.added(study),
        lists=[
            (title, list(sheets.leaves(values)))
            for title, values in (
                ("Study", study.protocol),
                ("Corpus", study.corpus),
                ("Environment", study.environment),
            )
        ],
        command=_repeat(study.protocol),
        level=quantities.percent(study.level),
        p_value=P_VALUES[study.correction],
        digest=digest,
    )


def page_template(name: str) -> jinja2.Template:
    """A template that escapes all it is given; its page allows the one script there is, by its digest."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("assay.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = environment.get_template("copy.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"script": Markup(script), "script_digest": digest}
    return environment.get_template(name)


def _shown(study: StudyRecord, columns: Sequence[Column]) -> Shown:
    return Shown([column.head for column in columns], size_rows(study, columns))


def _drawing(name: str, figure: Figure, folder: Path) -> Drawing:
    """Write the figure and take its SVG in; the chart library has escaped every text inside."""
    wide = write(figure, folder, name)[0].read_text(encoding="utf-8")
    one, other = (Markup(ROLES.sub("", svg)) for svg in (wide, figure.svg(NARROW)))
    return Drawing(name, figure.title, figure.caption, one, other)


def _repeat(protocol: Mapping[str, Any]) -> str:
    """The command that repeats the study, with the plug-ins that it needs."""
    plugins = [plugin["path"] if isinstance(plugin, Mapping) else plugin for plugin in protocol.get("plugins", [])]
    words = [word for plugin in plugins for word in ("--plugin", str(plugin))]
    return shlex.join(["assay", "compare", "--config", "config.yaml", "--out", "repeated", *words])
