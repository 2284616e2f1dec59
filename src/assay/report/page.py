"""The report of a study: one page that opens without a network, and its figures and their data beside it."""

import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from assay.analysis.wording import join_names
from assay.errors import RequestError
from assay.records import Addition, MeasuredRun, Results, RunRecord, StudyRecord, write_whole
from assay.report import quantities
from assay.report.columns import study_columns
from assay.report.drawing.figure import NARROW, Figure, write
from assay.report.drawing.study import study_figures
from assay.report.groups import asked_for
from assay.report.results import answer, question, size_rows

PAGE = "report.html"
P_VALUES = {
    "simultaneous": "Of studies with arms alike a share of at most {} has a pair as far apart as this one.",
    "holm": "Paired t over seeds, p = {} after Holm's correction.",
    "none": "Paired t over seeds, p = {} without a correction for other pairs.",
}
"""What a pair's p says, by the way in which several pairs were allowed for."""


class Drawing(NamedTuple):
    """One figure at both widths."""

    name: str
    title: str
    caption: str
    wide: Markup
    narrow: Markup


class ChainRow(NamedTuple):
    """The chains of one arm, seed by seed, each with the status of its run."""

    label: str
    chains: Sequence[tuple[str, str]]


def write_report(study: StudyRecord, runs: Sequence[MeasuredRun], results: Results, folder: Path) -> Path:
    """Write report.html and report/ (SVG and CSV of each figure) into `folder`; return the page's path.

    Both are written elsewhere first and moved, so an interrupted call leaves the old report. The same records give
    the same bytes. Of `runs` only those are used that the study's record is about: its folder may hold newer ones.
    `results` are those of the study itself.
    """
    runs = runs_in_order(study, runs)
    figures = study_figures(study, runs, results)
    page = folder / PAGE
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            drawings = [_drawing(name, figure, new) for name, figure in figures.items()]
            html = _render(study, runs, drawings, _digest(study, folder))
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


def _render(study: StudyRecord, measured: Sequence[MeasuredRun], drawings: Sequence[Drawing], digest: str) -> str:
    """The page as text; every name and value in it is escaped."""
    runs = [run.record for run in measured]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("assay.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    seeds = sorted({run.seed for run in runs})
    return environment.get_template("report.html").render(
        study=study,
        names=join_names(asked_for(study.arms)),
        question=question(study, max((run.tokens for run in runs), default=0)),
        answer=answer(study),
        heads=[column.head for column in study_columns(study)],
        groups=size_rows(study),
        drawings=drawings,
        runs=runs,
        scores={(run.record.label, run.record.seed): run.likelihood(study.split) for run in measured},
        seeds=seeds,
        chains=list(_chain_rows(study, runs, seeds)),
        equal=[_equal(study, runs, seed) for seed in seeds],
        added=list(map(_addition, study.added)),
        protocol=list(_flat(study.protocol)),
        corpus=list(_flat(study.corpus)),
        environment=list(_flat(study.environment)),
        command=_repeat(study.protocol),
        level=quantities.percent(study.level),
        p_value=P_VALUES[study.correction],
        digest=digest,
        quantities=quantities,
    )


def _drawing(name: str, figure: Figure, folder: Path) -> Drawing:
    """Write the figure and take its SVG in; the chart library has escaped every text inside."""
    wide = write(figure, folder, name)[0].read_text(encoding="utf-8")
    return Drawing(name, figure.title, figure.caption, Markup(wide), Markup(figure.svg(NARROW)))


def _chain_rows(study: StudyRecord, runs: Sequence[RunRecord], seeds: Sequence[int]) -> Iterator[ChainRow]:
    by_key = {(run.label, run.seed): (run.data_chain, run.status) for run in runs}
    for arm in study.arms:
        yield ChainRow(arm.label, [by_key.get((arm.label, seed), ("", "no run")) for seed in seeds])


def _equal(study: StudyRecord, runs: Sequence[RunRecord], seed: int) -> bool:
    """Whether all finished runs of `seed` consumed the same batches, at each size."""
    sizes = {arm.label: arm.size for arm in study.arms}
    chains: dict[int | None, set[str]] = {}
    for run in runs:
        if run.seed == seed and run.status == "finished":
            chains.setdefault(sizes[run.label], set()).add(run.data_chain)
    return bool(chains) and all(len(of) == 1 for of in chains.values())


def _addition(addition: Addition) -> tuple[str, str, str]:
    """When, how often results had been shown before, what."""
    what = [("arms", addition.arms), ("seeds", map(str, addition.seeds)), ("measurements", addition.measurements)]
    texts = [(name, ", ".join(of)) for name, of in what]
    shown = {0: "never", 1: "once"}.get(addition.looks, f"{addition.looks} times")
    return addition.when, shown, "; ".join(f"{name} {text}" for name, text in texts if text)


def _repeat(protocol: Mapping[str, Any]) -> str:
    """The command that repeats the study, with the plug-ins that it needs."""
    plugins = [plugin["path"] if isinstance(plugin, Mapping) else plugin for plugin in protocol.get("plugins", [])]
    words = [word for plugin in plugins for word in ("--plugin", str(plugin))]
    return shlex.join(["assay", "compare", "--config", "config.yaml", "--out", "repeated", *words])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("training.context", "256") for every leaf of nested mappings, those in lists too."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield from _flat({str(index): item for index, item in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, ", ".join(map(str, value))
        else:
            yield prefix + key, "none" if value is None else str(value)
