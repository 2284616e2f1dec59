"""How findings look in the terminal: check, result, place."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from assay.audit import AuditReport
    from assay.records import Finding

COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def verdict_line(name: str, report: "AuditReport") -> Text:
    """The subject, the verdict and how far it was searched."""
    verdict = Text("sound", "bold green") if report.sound else Text("UNSOUND", "bold red")
    reach, _, missing = report.reach().partition("; not looked at: ")
    line = Text(f"{name}: ", "bold") + verdict + Text(f" ({reach})", "not bold")
    return line + Text(f" not looked at: {missing}", "yellow") if missing else line


def findings_table(findings: Sequence["Finding"]) -> Table:
    """A table with one row per check. Of failures after the first only one sentence is shown; `--json` has all."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    failed = False
    for finding in findings:
        where = f"{finding.where}\n" if finding.where else ""
        told = finding.explanation.partition(". ")[0] if failed and finding.status == "fail" else finding.explanation
        failed |= finding.status == "fail"
        table.add_row(
            Text(finding.check.replace("_", " ")),
            Text(finding.status, COLOURS[finding.status]),
            Text(where, "bold") + Text(told, "not bold"),
        )
    return table
