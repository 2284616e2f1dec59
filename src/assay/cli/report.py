"""`assay report`: show a finished study again and redraw its page, from its records alone."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import Json
from assay.errors import RequestError


def report(
    study: Annotated[Path, typer.Argument(help="The folder of a finished study.")], as_json: Json = False
) -> None:
    """Show a finished study again and redraw report.html from its records. Needs no torch."""
    from assay.cli.show import show_study
    from assay.records import RunRecord, StudyRecord
    from assay.report.page import write_report

    if not (study / "study.json").exists():
        raise RequestError(f"{study}: no study.json; give the folder of a finished study (`assay compare` makes one)")
    record = StudyRecord.read(study / "study.json")
    runs = [RunRecord.read(path) for path in sorted(study.glob("runs/*/record.json"))]
    write_report(record, runs, study)
    show_study(record, study, as_json)
