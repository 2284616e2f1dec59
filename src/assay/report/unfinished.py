"""report.html while a study is at work: how far its runs are. It concludes nothing, and loads itself again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from assay.analysis.wording import join_names
from assay.records import write_whole
from assay.report import quantities
from assay.report.page import PAGE, page_template
from assay.report.sheets import Field, Head, Sheet

REFRESH_SECONDS = 10
"""After which a browser loads the page again."""


class Progress(NamedTuple):
    """How far one run is."""

    step: int = 0
    steps: int = 0
    """0 where it has not begun."""
    ended: str = ""
    """Its score or that it diverged, in words."""


def write_unfinished(
    folder: Path, labels: Sequence[str], seeds: Sequence[int], runs: Mapping[tuple[str, int], Progress], when: str
) -> None:
    """Write the page of a study of `labels` with `seeds`; `runs` are those that have begun, `when` the time in words.

    An OSError is the caller's to judge.
    """
    done = sum(bool(run.ended) for run in runs.values())
    rows = [[Field(label), *(Field(_said(runs.get((label, seed), Progress()))) for seed in seeds)] for label in labels]
    html = page_template("unfinished.html").render(
        names=join_names(labels),
        runs=f"{done} of {len(labels) * len(seeds)} runs",
        sheet=Sheet([Head("arm"), *(Head(f"seed {seed}") for seed in seeds)], rows),
        seconds=REFRESH_SECONDS,
        when=when,
    )
    write_whole(folder / PAGE, html.encode())


def _said(run: Progress) -> str:
    if run.ended:
        return run.ended
    return f"step {run.step:,} of {run.steps:,}" if run.steps else quantities.MISSING
