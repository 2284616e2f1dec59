"""Progress on standard error: bars in a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from assay.records import RunRecord
    from assay.training.loop import StepEvent

FIRST_LINE_SECONDS, LINE_SECONDS = 2.0, 10.0


class StudyProgress:
    """A Listener: one bar for the study, one for the run at hand with its loss and speed.

    Lines about the preparation are held back until the first run begins, or for ten seconds: a request that turns
    out wrong before is answered by one line and nothing else. `single` is the name of the one run of `train`.
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
        self.run = self.progress.add_task("run", total=None, detail="", visible=False)
        self.steps_done = 0
        self.started = self.last_line = time.monotonic()
        self.name = ""
        self.held: list[str] = []

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.name and value is not None:
            for task in self.progress.task_ids:
                self.progress.update(task, visible=False)
        else:
            self._release()
        self.progress.stop()

    def message(self, text: str) -> None:
        self.held.append(text)
        if self.name or (not self.bars and time.monotonic() - self.started > LINE_SECONDS):
            self._release()
        else:
            self.progress.update(self.study, description=text)

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        self._release()
        self.name = name if self.single else f"{name} ({index + 1} of {runs})"
        self.steps_done = index * steps
        self.progress.update(
            self.study, description="study", total=runs * steps, completed=self.steps_done, visible=not self.single
        )
        self.progress.reset(self.run, total=steps, description=name, detail="", visible=True)
        self._line(f"{self.name}: {steps} steps")

    def step(self, event: "StepEvent") -> None:
        if self.single and not self.name:
            self.run_started(0, 1, self.single, event.steps)
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

    def _release(self) -> None:
        for text in self.held:
            self._line(text)
        self.held.clear()

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        if self.bars:
            self.progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


class Stages:
    """What is being done, for verbs of seconds: a spinner in a terminal, elsewhere a line after two and each ten."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.status = self.console.status("") if self.console.is_terminal else None
        self.next_line = time.monotonic() + FIRST_LINE_SECONDS

    def __enter__(self) -> Self:
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is not None:
            self.status.stop()

    def tell(self, stage: str) -> None:
        """`stage` begins."""
        if self.status is not None:
            self.status.update(Text(stage))
        elif time.monotonic() >= self.next_line:
            print(stage, file=sys.stderr, flush=True)
            self.next_line = time.monotonic() + LINE_SECONDS
