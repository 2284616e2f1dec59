"""Progress on standard error: bars in a terminal, elsewhere a line from time to time."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from assay.cli.program import as_called
from assay.cli.streams import tell

if TYPE_CHECKING:
    from assay.records import MeasuredRun
    from assay.training.loop import StepEvent

FIRST_LINE_SECONDS, LINE_SECONDS = 2.0, 10.0
HELD_SECONDS = 0.5
"""Of computing time, so that a busy machine tells as much as an idle one."""


class StudyProgress:
    """A RunListener: one bar for the study, and one for each active run with its loss and speed.

    Lines about the preparation are held back until the first run begins or preparing has cost HELD_SECONDS, so that a
    request that turns out wrong by then gets one line and nothing else. `single` is the name of the only run of `assay
    train`.
    """

    def __init__(self, batch_tokens: int, single: str | None = None) -> None:
        console = Console(stderr=True)
        self.single = single
        self.batch_tokens = batch_tokens
        self.bars = console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not self.bars,
        )
        self.study = self.progress.add_task("study", total=None, detail="")
        self.runs: dict[str, TaskID] = {}
        self.names: dict[str, str] = {}
        self.done: dict[str, int] = {}
        """{run: steps done} for every run that has begun."""
        self.last_line = time.monotonic()
        self.began = time.process_time()
        self.held: list[str] = []

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.names and value is not None:
            for task in self.progress.task_ids:
                self.progress.update(task, visible=False)
        else:
            self._release()
        self.progress.stop()

    def message(self, text: str) -> None:
        self.held.append(text)
        if self.names or (not self.bars and time.process_time() - self.began > HELD_SECONDS):
            self._release()
        else:
            self.progress.update(self.study, description=text)

    def notice(self, text: str) -> None:
        self._line(text)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self._release()
        self.names[name] = name if self.single else f"{name} ({index + 1} of {runs})"
        self.done[name] = 0
        self.progress.update(self.study, description="study", total=runs * steps, visible=not self.single)
        if name not in self.runs:
            self.runs[name] = self.progress.add_task(name, total=steps, detail="")
        self._line(f"{self.names[name]}: {steps} steps")

    def single_step(self, event: "StepEvent") -> None:
        """A step of the only run of `assay train`; the first one also announces the run."""
        name = self.single or ""
        if not self.names:
            self.run_started(0, 1, name, event.steps)
        self.step(name, event)

    def step(self, name: str, event: "StepEvent") -> None:
        if not self.done[name] and event.step > 1:
            self._line(f"{self.names[name]}: continues after step {event.step - 1} of {event.steps}")
        self.done[name] = event.step
        speed = self.batch_tokens / max(event.seconds, 1e-9)
        detail = f"loss {event.nats_per_token:.3f}  {speed:,.0f} tokens/s"
        self.progress.update(self.runs[name], completed=event.step, detail=detail)
        self.progress.update(self.study, completed=sum(self.done.values()))
        if event.step == event.steps:
            self.progress.update(self.runs[name], detail="measuring")
        if not self.bars and time.monotonic() - self.last_line > LINE_SECONDS:
            left = (event.steps - event.step) * event.seconds
            self._line(f"{self.names[name]}: step {event.step} of {event.steps}, {detail}, about {left:.0f} s left")

    def run_finished(self, name: str, run: "MeasuredRun") -> None:
        self.done[name] = run.record.steps
        self.progress.update(self.study, completed=sum(self.done.values()))
        self.progress.remove_task(self.runs.pop(name))
        scores = run.scores
        if scores is None:
            self._line(f"{self.names[name]}: diverged at step {run.record.steps}")
        else:
            self._line(f"{self.names[name]}: {scores.nats_per_token:.4f} nats per token on the {scores.split} split")

    def _release(self) -> None:
        for text in self.held:
            self._line(text)
        self.held.clear()

    def _line(self, text: str) -> None:
        text = as_called(text)
        self.last_line = time.monotonic()
        if self.bars:
            self.progress.console.print(text, highlight=False, markup=False)
        else:
            tell(text)


class Stages:
    """Progress of commands that take seconds: a line that changes in a terminal, elsewhere one every ten seconds.

    Nothing moves between two stages: that would take a thread, and an audit works in two processes only where there is
    none (`assay.audit.side_by_side`).
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.line = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self.next_line = time.monotonic() + FIRST_LINE_SECONDS

    def __enter__(self) -> Self:
        if self.line is not None:
            self.line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.line is not None:
            self.line.stop()

    def tell(self, stage: str) -> None:
        """Say that `stage` begins."""
        if self.line is not None:
            self.line.update(Text(stage), refresh=True)
        elif time.monotonic() >= self.next_line:
            tell(stage)
            self.next_line = time.monotonic() + LINE_SECONDS
