"""Whether all runs had one machine, one build and one execution plan; where not, in what they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from assay.analysis.wording import counted, join_names
from assay.records import RunRecord

FEW = 3
"""So many runs are named; more are counted."""


def said(runs: Sequence[RunRecord]) -> list[str]:
    """A line for environments that differ and one for plans that do."""
    planned = [run for run in runs if run.plan]  # version 1 does not say
    return [
        *_line("Runs had different set-ups", runs, [run.environment for run in runs]),
        *_line("Runs had different execution plans, so they are not alike", planned, [run.plan for run in planned]),
    ]


def _line(start: str, runs: Sequence[RunRecord], values: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for of in values for key in of)
    texts = []
    for key in keys:
        having: dict[str, list[RunRecord]] = {}
        for run, of in zip(runs, values, strict=True):
            having.setdefault(str(of.get(key, "not recorded")), []).append(run)
        if len(having) > 1:
            texts.append(f"{key} {join_names([f'{value} ({_who(of, len(runs))})' for value, of in having.items()])}")
    return [f"{start}: {'; '.join(texts)}."] if texts else []


def _who(runs: Sequence[RunRecord], out_of: int) -> str:
    if len(runs) > FEW or 2 * len(runs) > out_of:
        return counted(len(runs), "run")
    return ", ".join(f"{run.label} seed {run.seed}" for run in runs)
