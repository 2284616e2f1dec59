"""`assay report`: show a finished study again and redraw its page, from its records alone."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import Json
from assay.cli.program import as_called
from assay.cli.streams import tell
from assay.errors import RequestError


def report(
    study: Annotated[Path, typer.Argument(help="The folder of a finished study.")], as_json: Json = False
) -> None:
    """Show a finished study again and redraw report.html from its records. Needs no torch."""
    from assay.cli.show import show_study
    from assay.records import MeasuredRun, StudyRecord, read_study_results
    from assay.report.page import write_report

    if not (study / "study.json").exists():
        raise RequestError(f"{study}: no study.json; give the folder of a finished study (`assay compare` makes one)")
    record = StudyRecord.read(study / "study.json")
    runs = [MeasuredRun.read(path.parent) for path in sorted(study.glob("runs/*/record.json"))]
    for line in (line for run in runs for line in run.stale.values()):
        again = as_called(f"`assay measure {study}` measures again what the table shows")
        tell(f"assay: {line}; {again}")
    write_report(record, runs, read_study_results(study), study)
    show_study(record, study, as_json)
