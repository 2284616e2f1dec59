"""Carries out the runs of a study: one by one in this process, or in worker processes that get only a run's config."""

from collections.abc import Sequence
from functools import partial

from assay.records import MeasuredRun
from assay.study.executor.job import Job, RunListener
from assay.study.executor.pool import Pool


def execute(jobs: Sequence[Job], workers: int, listener: RunListener) -> list[MeasuredRun]:
    """Carry out `jobs` with at most `workers` at a time and return their records in the order given.

    The run of a worker that dies is tried once more while the others go on; at the end a WorkerError names the runs
    that could not be finished. Runs that need code registered in this Python only are carried out here, at the end.
    """
    done: dict[int, MeasuredRun] = {}
    for index, job in enumerate(jobs):
        if (record := job.finished()) is not None:
            done[index] = record
            listener.run_started(index, len(jobs), job.name, job.steps)
            listener.run_finished(job.name, record)
    outside = [index for index in range(len(jobs)) if index not in done and not jobs[index].only_here]
    if workers > 1 and outside:
        done |= Pool(jobs, workers, listener).go(outside)
        for reason in dict.fromkeys(job.only_here for index, job in enumerate(jobs) if index not in done):
            listener.notice(reason)
    for index, job in enumerate(jobs):
        if index not in done:
            listener.run_started(index, len(jobs), job.name, job.steps)
            done[index] = job.here([partial(listener.step, job.name)])
            listener.run_finished(job.name, done[index])
    return [done[index] for index in range(len(jobs))]
