"""A pool of worker processes, one run each: starts them, follows each run's metrics.jsonl, retries a run once."""

import json
import math
import os
import site
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep as pause
from typing import IO

from assay.errors import WRONG_REQUEST, RequestError, WorkerError
from assay.records import MeasuredRun
from assay.study.executor.job import Job, RunListener
from assay.training.loop import StepEvent

POLL_SECONDS = 0.1
TRIES = 2
"""How often a run is tried: one whose worker died is tried once more, from its last checkpoint."""
LAST_LINES = 3
COMMAND = (sys.executable, "-P", "-m", "assay.study.executor.worker")
"""The command of a worker; the folder of its run is appended."""
LOG = ".worker.log"
"""The file in the run's folder that holds a worker's output; removed when the run is done."""


@dataclass
class _Worker:
    """The process that carries out run number `index`, and how much of the run's metrics was read."""

    index: int
    tries: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    read_to: int
    began: float
    torn: bytes = b""
    """The beginning of a line whose rest is not written yet."""


class Pool:
    """Carries out some of `jobs` with at most `workers` processes at a time."""

    def __init__(self, jobs: Sequence[Job], workers: int, listener: RunListener) -> None:
        self.jobs = jobs
        self.workers = workers
        self.listener = listener
        self.done: dict[int, MeasuredRun] = {}
        self.active: list[_Worker] = []
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
                for worker in list(self.active):
                    self._look_at(worker)
        finally:
            _end(self.active)
        if self.died:
            what = "; ".join([*self.refused, *self.died])
            raise WorkerError(f"{what}; the other runs are done, and the same command tries again")
        if self.refused:
            raise RequestError("; ".join(self.refused))
        return self.done

    def _next(self) -> tuple[int, int]:
        """The next job: of the smallest turn in the queue the longest one, those of unknown duration before others."""
        turn = min(self.jobs[index].turn for index, _ in self.queue)
        of_turn = [entry for entry in self.queue if self.jobs[entry[0]].turn == turn]
        longest = max(of_turn, key=lambda entry: self.seconds.get(self.jobs[entry[0]].arm, math.inf))
        self.queue.remove(longest)
        return longest

    def _begin(self, index: int, tries: int) -> None:
        """Start a worker. Rows already in its metrics.jsonl are of an earlier process and are not reported."""
        job = self.jobs[index]
        self.listener.run_started(index, len(self.jobs), job.name, job.steps)
        job.prepare()
        metrics = job.folder / "metrics.jsonl"
        log = (job.folder / LOG).open("wb")
        process = subprocess.Popen(
            [*COMMAND, str(job.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=_environment(),
        )
        read_to = metrics.stat().st_size if metrics.exists() else 0
        self.active.append(_Worker(index, tries, process, log, read_to, time.monotonic()))

    def _look_at(self, worker: _Worker) -> None:
        """Report the worker's new steps, and deal with its result if it has ended."""
        job = self.jobs[worker.index]
        status = worker.process.poll()  # asked before its metrics are read, so that no last row is missed
        for event in _new_events(worker, job.folder / "metrics.jsonl"):
            self.listener.step(job.name, event)
        if status is None:
            return
        self.active.remove(worker)
        said = _last_lines(worker)
        record = job.finished() if status == 0 else None
        if record is not None:
            self.done[worker.index] = record
            self.seconds[job.arm] = time.monotonic() - worker.began
            self.listener.run_finished(job.name, record)
        elif status == WRONG_REQUEST:
            self.refused.append(f"{job.name}: {said}")
        elif worker.tries < TRIES:
            self.listener.notice(f"{job.name}: its worker {_how(status)} ({said}); once more from its checkpoint")
            self.queue.append((worker.index, worker.tries + 1))
        else:
            self.died.append(f"{job.name}: its worker {_how(status)} {TRIES} times ({said})")


def _environment() -> dict[str, str]:
    """The environment of a worker: that of this process, with assay's folder on PYTHONPATH if it is not installed."""
    root = str(Path(__file__).parents[3])
    if root in site.getsitepackages():
        return dict(os.environ)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _new_events(worker: _Worker, metrics: Path) -> list[StepEvent]:
    """The steps in its metrics since the last look. A file that became shorter was cut back by a resume."""
    try:
        with metrics.open("rb") as file:
            if metrics.stat().st_size < worker.read_to:
                worker.read_to, worker.torn = 0, b""
            file.seek(worker.read_to)
            content = file.read()
    except OSError:
        return []
    worker.read_to += len(content)
    *lines, worker.torn = (worker.torn + content).split(b"\n")
    events = []
    for line in lines:
        try:
            events.append(StepEvent(**json.loads(line)))
        except (ValueError, TypeError):  # a line that a killed worker left incomplete
            continue
    return events


def _last_lines(worker: _Worker) -> str:
    """The worker's last output in one line; removes its log."""
    lines = Path(worker.log.name).read_text(encoding="utf-8", errors="replace").split("\n")
    _close(worker)
    return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:]) or "it said nothing"


def _how(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _close(worker: _Worker) -> None:
    worker.log.close()
    Path(worker.log.name).unlink(missing_ok=True)
    if worker.process.stdin is not None:
        worker.process.stdin.close()


def _end(active: Sequence[_Worker]) -> None:
    """Terminate all workers; their checkpoints are complete at any moment."""
    for worker in active:
        worker.process.kill()
    for worker in active:
        worker.process.wait()
        _close(worker)
