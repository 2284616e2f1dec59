"""Carries out the runs of a study: here, one by one, or in worker processes that know nothing but their spec."""

import json
import os
import site
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import sleep as pause
from typing import IO, Protocol

from assay.errors import RequestError, WorkerError
from assay.records import RunRecord
from assay.study.worker import WRONG_REQUEST
from assay.training.loop import Observer, StepEvent

POLL_SECONDS = 0.1
TRIES = 2
"""A run whose worker died is tried once more, from its last checkpoint."""
LAST_LINES = 3
COMMAND = (sys.executable, "-P", "-m", "assay.study.worker")
"""What carries out the run in the folder that follows."""
LOG = ".worker.log"
"""What a worker said, in the run's folder; removed when the run is done."""


class RunListener(Protocol):
    """Whoever hears how runs go on; several may be under way."""

    def run_started(self, index: int, runs: int, name: str, steps: int) -> None:
        """Run `index` of `runs` begins, or goes on."""

    def step(self, name: str, event: StepEvent) -> None:
        """One optimizer step of a run is done."""

    def run_finished(self, name: str, record: RunRecord) -> None:
        """A run is recorded."""

    def message(self, text: str) -> None:
        """One line."""


@dataclass(frozen=True)
class Job:
    """One run: what a message calls it, its folder, and how it is carried out in this process."""

    name: str
    folder: Path
    steps: int
    finished: Callable[[], RunRecord | None]
    """Its record where it has ended already."""
    here: Callable[[Sequence[Observer]], RunRecord]
    prepare: Callable[[], object]
    """Writes its config.yaml, which is all that a worker gets."""
    only_here: str = ""
    """Why no worker can do it, "" where one can."""


def execute(jobs: Sequence[Job], workers: int, listener: RunListener) -> list[RunRecord]:
    """Carry out `jobs` with at most `workers` at a time and return their records in the order given.

    A worker that dies is named and its run tried once more while the others go on; a WorkerError says at the end which
    runs could not be finished.
    """
    done: dict[int, RunRecord] = {}
    for index, job in enumerate(jobs):
        if (record := job.finished()) is not None:
            done[index] = record
            listener.run_started(index, len(jobs), job.name, job.steps)
            listener.run_finished(job.name, record)
    left = [index for index in range(len(jobs)) if index not in done]
    outside = [index for index in left if not jobs[index].only_here]
    if workers > 1 and len(outside) > 1:
        done |= _in_workers(jobs, outside, workers, listener)
        left = [index for index in left if index not in done]
        for reason in dict.fromkeys(jobs[index].only_here for index in left):
            listener.message(reason)
    for index in left:
        job = jobs[index]
        listener.run_started(index, len(jobs), job.name, job.steps)
        done[index] = job.here([partial(listener.step, job.name)])
        listener.run_finished(job.name, done[index])
    return [done[index] for index in range(len(jobs))]


@dataclass
class _Process:
    """A worker at one run, and how much of its metrics was read."""

    index: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    read_to: int
    tries: int
    waiting: bytes = field(default=b"")


def _in_workers(
    jobs: Sequence[Job], indices: Sequence[int], workers: int, listener: RunListener
) -> dict[int, RunRecord]:
    """Records of the runs that workers finished."""
    queue = [(index, 1) for index in indices]
    active: list[_Process] = []
    done: dict[int, RunRecord] = {}
    wrong: list[str] = []
    died: list[str] = []
    try:
        while queue or active:
            while queue and len(active) < workers:
                index, tries = queue.pop(0)
                listener.run_started(index, len(jobs), jobs[index].name, jobs[index].steps)
                active.append(_start(jobs[index], index, tries))
            pause(POLL_SECONDS)
            for worker in list(active):
                job = jobs[worker.index]
                status = worker.process.poll()  # before its metrics are read, so that none is missed
                for event in _new_events(worker, job.folder / "metrics.jsonl"):
                    listener.step(job.name, event)
                if status is None:
                    continue
                active.remove(worker)
                said = _last_lines(worker, job.folder)
                record = job.finished() if status == 0 else None
                if record is not None:
                    done[worker.index] = record
                    listener.run_finished(job.name, record)
                elif status == WRONG_REQUEST:
                    wrong.append(f"{job.name}: {said}")
                elif worker.tries < TRIES:
                    listener.message(f"{job.name}: its worker {_end(status)} ({said}); once more from its checkpoint")
                    queue.append((worker.index, worker.tries + 1))
                else:
                    died.append(f"{job.name}: its worker {_end(status)} {TRIES} times ({said})")
    finally:
        _stop(active)
    if wrong:
        raise RequestError("; ".join(wrong))
    if died:
        raise WorkerError(f"{'; '.join(died)}; the other runs are done, and the same command tries again")
    return done


def _start(job: Job, index: int, tries: int) -> _Process:
    """Begin to read metrics where the last checkpoint ends: what comes after it is written again."""
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
    return _Process(index, process, log, metrics.stat().st_size if metrics.exists() else 0, tries)


def _environment() -> dict[str, str]:
    """That of this process, and where it found assay, if that is not where Python looks by itself."""
    root = str(Path(__file__).parents[2])
    if root in site.getsitepackages():
        return dict(os.environ)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _new_events(worker: _Process, metrics: Path) -> list[StepEvent]:
    """The steps that its metrics tell of since the last look. A file that became shorter was begun anew."""
    try:
        with metrics.open("rb") as file:
            if metrics.stat().st_size < worker.read_to:
                worker.read_to, worker.waiting = 0, b""
            file.seek(worker.read_to)
            content = file.read()
    except OSError:
        return []
    worker.read_to += len(content)
    lines = (worker.waiting + content).split(b"\n")
    worker.waiting = lines.pop()
    events = []
    for line in lines:
        try:
            events.append(StepEvent(**json.loads(line)))
        except (ValueError, TypeError):  # torn by a death
            continue
    return events


def _close(worker: _Process) -> None:
    worker.log.close()
    Path(worker.log.name).unlink(missing_ok=True)
    if worker.process.stdin is not None:
        worker.process.stdin.close()


def _last_lines(worker: _Process, folder: Path) -> str:
    """What the worker said last, in one line; its log is removed."""
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    _close(worker)
    return " / ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:]) or "it said nothing"


def _end(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _stop(active: Sequence[_Process]) -> None:
    """End all workers: their checkpoints are whole at any moment."""
    for worker in active:
        worker.process.kill()
    for worker in active:
        worker.process.wait()
        _close(worker)
