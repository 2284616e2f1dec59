"""A run as a job for this process or a worker, and the interface of listeners that are told how runs go on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assay.records import MeasuredRun
from assay.training.loop import Observer, StepEvent


class RunListener(Protocol):
    """Is told how runs go on; several may run at the same time."""

    def message(self, text: str) -> None:
        """One line of progress."""

    def notice(self, text: str) -> None:
        """One line that the user must see, even if progress is not shown."""

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        """Run number `index` of `runs` begins or continues."""

    def step(self, name: str, event: StepEvent) -> None:
        """One optimizer step of a run is done."""

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        """A run is recorded and measured."""


@dataclass(frozen=True)
class Job:
    """One run: its name in messages, its folder, and how it is carried out in this process."""

    name: str
    folder: Path
    steps: int
    finished: Callable[[], MeasuredRun | None]
    """Returns the run if it has ended already and nothing is left to measure."""
    here: Callable[[Sequence[Observer]], MeasuredRun]
    prepare: Callable[[], object]
    """Writes the run's config.yaml, which is all that a worker gets."""
    only_here: str = ""
    """Why no worker can carry it out; "" if one can."""
    arm: str = ""
    """The arm's label; jobs of one arm take about equally long."""
    alone: bool = False
    """Whether it needs a process that has carried out nothing before."""
    turn: int = 0
    """Jobs of a smaller turn begin first, but for the last of all; the turn is the place of the seed in the study."""
