"""One run as it is handed to whoever carries it out, and whoever hears of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from assay.records import MeasuredRun
from assay.training.loop import Observer, StepEvent


class RunListener(Protocol):
    """Whoever hears how runs go on; several may be under way."""

    def message(self, text: str) -> None:
        """One line about what is going on."""

    def notice(self, text: str) -> None:
        """One line that must be said, also by who shows no progress."""

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        """Run `index` of `runs` begins, or goes on."""

    def step(self, name: str, event: StepEvent) -> None:
        """One optimizer step of a run is done."""

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        """A run is recorded and measured."""


@dataclass(frozen=True)
class Job:
    """One run: what a message calls it, its folder, and how it is carried out in this process."""

    name: str
    folder: Path
    steps: int
    finished: Callable[[], MeasuredRun | None]
    """It, where it has ended already and nothing is left to measure."""
    here: Callable[[Sequence[Observer]], MeasuredRun]
    prepare: Callable[[], object]
    """Writes its config.yaml, which is all that a worker gets."""
    only_here: str = ""
    """Why no worker can do it, "" where one can."""
    arm: str = ""
    """Jobs of one arm take about as long as each other."""
    turn: int = 0
    """Jobs of an earlier turn, which is a seed, begin before those of a later one."""
