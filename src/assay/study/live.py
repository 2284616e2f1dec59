"""A listener that keeps report.html up to date while the runs of a study go on."""

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from assay.records import MeasuredRun
from assay.report.unfinished import REFRESH_SECONDS, Progress, write_unfinished
from assay.study.executor.job import RunListener
from assay.training.loop import StepEvent


class Live:
    """Tells `listener` all it is told, and writes the page after each run and every few seconds.

    A folder with a finished study keeps its page until there is another.
    """

    def __init__(self, listener: RunListener, folder: Path, labels: Sequence[str], seeds: Sequence[int]) -> None:
        self.listener, self.folder, self.labels, self.seeds = listener, folder, labels, seeds
        self.silent = (folder / "study.json").exists()
        self.places = {f"{label}-seed{seed}": (label, seed) for label in labels for seed in seeds}
        self.runs: dict[tuple[str, int], Progress] = {}
        self.written = -float("inf")

    def message(self, text: str) -> None:
        self.listener.message(text)

    def notice(self, text: str) -> None:
        self.listener.notice(text)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self.listener.run_started(index, runs, name, steps)
        self.runs[self.places[name]] = Progress(0, steps)
        self._write_now_and_then()

    def step(self, name: str, event: StepEvent) -> None:
        self.listener.step(name, event)
        place = self.places[name]
        self.runs[place] = self.runs.get(place, Progress())._replace(step=event.step)
        self._write_now_and_then()

    def run_finished(self, name: str, run: MeasuredRun) -> None:
        self.listener.run_finished(name, run)
        ended = run.record.status if run.scores is None else f"{run.scores.nats_per_token:.4f} nats/token"
        self.runs[self.places[name]] = Progress(run.record.steps, run.record.steps, ended)
        self._write()

    def _write_now_and_then(self) -> None:
        if time.monotonic() - self.written >= REFRESH_SECONDS:
            self._write()

    def _write(self) -> None:
        if self.silent:
            return
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        with contextlib.suppress(OSError):  # the runs themselves say where a disk is full
            write_unfinished(self.folder, self.labels, self.seeds, self.runs, when)
        self.written = time.monotonic()
