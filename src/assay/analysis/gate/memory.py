"""How much the arms of a gate remember: scores of the runs that its memory stages trained; no torch."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from assay.analysis.gate.tuned import runs_in
from assay.records import MeasuredRun
from assay.records.gate import GatePlan, MemoryKind

MEMORY_KINDS: tuple[MemoryKind, ...] = ("recall", "statefulness")
MEASURED_BY: Mapping[MemoryKind, str] = {"recall": "answers", "statefulness": "choices"}
LEARNED = 0.1
"""An arm that does not go so far on the way from the floor to perfect has not learned the task: nothing is told of its
memory."""


class Remembered(NamedTuple):
    """What the runs of one arm at one memory stage came to."""

    scores: dict[int, float]
    """Seed -> (accuracy - floor) / (1 - floor): 0 is what needs no memory, or less than that, and 1 perfect."""
    diverged: int

    @property
    def mean(self) -> float | None:
        """None where a run diverged: a mean of the others would look better than the arm is."""
        return None if self.diverged or not self.scores else statistics.fmean(self.scores.values())

    @property
    def learned(self) -> bool:
        """Whether it has left the floor."""
        return self.mean is not None and self.mean >= LEARNED


Memory = Mapping[str, Mapping[str, Remembered]]
"""Memory stage -> arm -> what it remembers."""


def read_memory(folder: Path, plan: GatePlan) -> dict[str, dict[str, Remembered]]:
    """The scores of every memory stage that the gate in `folder` has carried out."""
    found: dict[str, dict[str, Remembered]] = {}
    for stage in plan.stages:
        if stage.kind in ("recall", "statefulness"):
            arms: dict[str, Remembered] = {}
            for run in runs_in(folder / stage.name):
                scores, diverged = arms.get(run.record.label, Remembered({}, 0))
                score = score_of(run, stage.kind)
                known = {} if score is None else {run.record.seed: score}
                arms[run.record.label] = Remembered({**scores, **known}, diverged + (score is None))
            found[stage.kind] = arms
    return found


def score_of(run: MeasuredRun, kind: MemoryKind) -> float | None:
    """How far a run comes on the way from its floor to perfect; None where it diverged or was not measured."""
    result = run.results.get(MEASURED_BY[kind])
    if run.record.status != "finished" or result is None:
        return None
    column = next((column for column in result.columns if column.key == "accuracy"), None)
    if column is None or column.value is None or column.floor is None or not math.isfinite(column.value):
        return None
    return max(0.0, (column.value - column.floor) / (1 - column.floor)) if column.floor < 1 else None


def why_not_told(kind: str, memory: Memory, candidate: str, baseline: str) -> str | None:
    """Why the two cannot be compared; None where they can.

    Two arms that both stand at the floor of a task are not equally good at it: neither was trained for long enough.
    """
    arms = memory.get(kind)
    if not arms:
        return f"{kind} was not measured"
    both = {name: arms.get(name) for name in (candidate, baseline)}
    for name, of in both.items():
        if of is None:
            return f"{kind} of {name} was not measured"
        if of.diverged:
            return f"{of.diverged} of {name}'s {kind} runs diverged"
    known = {name: of for name, of in both.items() if of is not None}
    if not any(of.learned for of in known.values()):
        said = " and ".join(f"{name} {of.mean:.0%}" for name, of in known.items() if of.mean is not None)
        return f"all arms stand at the floor ({said} of the way to perfect, under {LEARNED:.0%}), so nothing is told"
    return None
