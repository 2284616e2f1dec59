"""A pool of worker processes: hands runs to them, follows each run's metrics.jsonl, and retries a run once."""

import json
import math
import time
from collections.abc import Sequence
from time import sleep as pause

from assay.errors import WRONG_REQUEST, RequestError, WorkerError
from assay.records import MeasuredRun
from assay.study.executor.job import Job, RunListener
from assay.study.executor.order import first_of_best_order
from assay.study.executor.process import WorkerProcess
from assay.training.loop import StepEvent

POLL_SECONDS = 0.1
LAST_JOBS = 5
"""So many jobs a worker from the end their order follows from how long they take, not from their turns."""
TRIES = 2
"""How often a run is tried: one whose worker died is tried once more, from its last checkpoint."""


class _Task:
    """Run number `index` in the hands of a worker, and how much of the run's metrics was read."""

    def __init__(self, index: int, tries: int, job: Job, worker: WorkerProcess) -> None:
        self.index = index
        self.tries = tries
        self.worker = worker
        self.metrics = job.folder / "metrics.jsonl"
        self.read_to = self.metrics.stat().st_size if self.metrics.exists() else 0
        """Rows that are there already are of an earlier process and are not reported."""
        self.torn = b""
        """The beginning of a line whose rest is not written yet."""
        self.began = time.monotonic()

    def new_events(self) -> list[StepEvent]:
        """The steps in its metrics since the last look. A file that became shorter was cut back by a resume."""
        try:
            with self.metrics.open("rb") as file:
                if self.metrics.stat().st_size < self.read_to:
                    self.read_to, self.torn = 0, b""
                file.seek(self.read_to)
                content = file.read()
        except OSError:
            return []
        self.read_to += len(content)
        *lines, self.torn = (self.torn + content).split(b"\n")
        events = []
        for line in lines:
            try:
                events.append(StepEvent(**json.loads(line)))
            except (ValueError, TypeError):  # a line that a killed worker left incomplete
                continue
        return events


class Pool:
    """Carries out some of `jobs` with at most `workers` processes at a time."""

    def __init__(self, jobs: Sequence[Job], workers: int, listener: RunListener) -> None:
        self.jobs = jobs
        self.workers = workers
        self.listener = listener
        self.done: dict[int, MeasuredRun] = {}
        self.active: list[_Task] = []
        self.idle: list[WorkerProcess] = []
        self.queue: list[tuple[int, int]] = []
        """(index of a job, which try it is)"""
        self.seconds: dict[str, float] = {}
        """{arm: how long its last run took}."""
        self.refused: list[str] = []
        self.died: list[str] = []

    def go(self, indices: Sequence[int]) -> dict[int, MeasuredRun]:
        """The records of these jobs. What a worker refuses, or dies of twice, is raised when the others are done."""
        self.queue = [(index, 1) for index in indices]
        try:
            while self.queue or self.active:
                while self.queue and len(self.active) < self.workers:
                    self._begin(*self._next())
                pause(POLL_SECONDS)
                for task in list(self.active):
                    self._look_at(task)
        finally:
            # Checkpoints are complete at any moment.
            for worker in [*self.idle, *(task.worker for task in self.active)]:
                worker.kill()
        if self.died:
            what = "; ".join([*self.refused, *self.died])
            raise WorkerError(f"{what}; the other runs are done, and the same command tries again")
        if self.refused:
            raise RequestError("; ".join(self.refused))
        return self.done

    def _next(self) -> tuple[int, int]:
        """The next job: of the smallest turn in the queue the longest one, those of unknown duration before others.

        The last jobs begin as all workers end at about the same time.
        """
        turn = min(self.jobs[index].turn for index, _ in self.queue)
        of_turn = [entry for entry in self.queue if self.jobs[entry[0]].turn == turn]
        chosen = max(of_turn, key=lambda entry: self._seconds_of(entry[0]))
        if len(self.queue) <= LAST_JOBS * self.workers:
            chosen = self._that_ends_soonest() or chosen
        self.queue.remove(chosen)
        return chosen

    def _that_ends_soonest(self) -> tuple[int, int] | None:
        """The job whose beginning now lets the last worker end first; None where nobody knows how long jobs take."""
        queue = sorted(self.queue, key=lambda entry: self.jobs[entry[0]].turn)
        seconds = [self._seconds_of(index) for index, _ in queue]
        busy = [self._seconds_of(task.index) - (time.monotonic() - task.began) for task in self.active]
        if math.inf in (*seconds, *busy):
            return None
        free = [0.0] * (self.workers - len(busy))
        arm = self.jobs[queue[first_of_best_order(seconds, [*free, *(max(0.0, left) for left in busy)])][0]].arm
        return next(entry for entry in queue if self.jobs[entry[0]].arm == arm)

    def _seconds_of(self, index: int) -> float:
        return self.seconds.get(self.jobs[index].arm, math.inf)

    def _begin(self, index: int, tries: int) -> None:
        """Give the run to a worker that waits, or to a new one; one that waits then makes room."""
        job = self.jobs[index]
        self.listener.run_started(index, len(self.jobs), job.name, job.steps)
        job.prepare()
        waiting = self.idle.pop() if self.idle else None
        if waiting is not None and (job.alone or not waiting.lives()):
            waiting.kill()
            waiting = None
        worker = waiting or WorkerProcess()
        self.active.append(_Task(index, tries, job, worker))
        worker.give(job.folder)

    def _look_at(self, task: _Task) -> None:
        """Report the task's new steps, and deal with its result if the worker is done with it or has ended."""
        job, worker = self.jobs[task.index], task.worker
        status = worker.status()  # asked before the metrics are read, so that no last row is missed
        for event in task.new_events():
            self.listener.step(job.name, event)
        if status is None:
            return
        self.active.remove(task)
        said = worker.last_lines()
        (self.idle.append if worker.waits else WorkerProcess.kill)(worker)
        record = job.finished() if status != WRONG_REQUEST else None
        if record is not None:
            self.done[task.index] = record
            self.seconds[job.arm] = time.monotonic() - task.began
            self.listener.run_finished(job.name, record)
        elif status == WRONG_REQUEST:
            self.refused.append(f"{job.name}: {said}")
        elif task.tries < TRIES:
            self.listener.notice(f"{job.name}: its worker {_how(status)} ({said}); once more from its checkpoint")
            self.queue.append((task.index, task.tries + 1))
        else:
            self.died.append(f"{job.name}: its worker {_how(status)} {TRIES} times ({said})")


def _how(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
