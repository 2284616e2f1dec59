"""Progress on standard error: bars in a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from assay.records import RunRecord
    from assay.training.loop import StepEvent

LINE_SECONDS = 10.0


class StudyProgress:
    """A Listener: one bar for the study, one for the run at hand with its loss and speed."""

    def __init__(self, batch_tokens: int, single: bool = False) -> None:
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
        self.study = self.progress.add_task("study", total=None, detail="", visible=not single)
        self.run = self.progress.add_task("run", total=None, detail="", visible=False)
        self.steps_done = 0
        self.started = self.last_line = time.monotonic()
        self.name = ""

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def message(self, text: str) -> None:
        self._line(text)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self.name = name if self.single else f"{name} ({index + 1} of {runs})"
        self.steps_done = index * steps
        self.progress.update(self.study, total=runs * steps, completed=self.steps_done)
        self.progress.reset(self.run, total=steps, description=name, detail="", visible=True)
        self._line(f"{self.name}: {steps} steps")

    def step(self, event: "StepEvent") -> None:
        speed = self.batch_tokens / max(event.seconds, 1e-9)
        detail = f"loss {event.nats_per_token:.3f}  {speed:,.0f} tokens/s"
        self.progress.update(self.run, completed=event.step, detail=detail)
        self.progress.update(self.study, completed=self.steps_done + event.step)
        if event.step == event.steps:
            self.progress.update(self.run, detail="measuring on the test split")
        if not self.bars and time.monotonic() - self.last_line > LINE_SECONDS:
            left = (event.steps - event.step) * event.seconds
            self._line(f"{self.name}: step {event.step} of {event.steps}, {detail}, about {left:.0f} s left")

    def run_finished(self, record: "RunRecord") -> None:
        if record.test is None:
            self._line(f"{self.name}: diverged at step {record.steps}")
        else:
            self._line(f"{self.name}: {record.test.nats_per_token:.4f} nats per token on the test split")

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        if self.bars:
            self.progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
