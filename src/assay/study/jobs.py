"""A run of a study as a job for the executor, and the folder where it lies."""

from functools import partial
from pathlib import Path

from assay.study.executor.job import Job
from assay.study.folder import open_run
from assay.study.resolve import ResolvedArm, Study
from assay.study.run import carry_out, finished_run
from assay.study.sources import only_here, takes_outside_code


def job_of(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> Job:
    """The run of `arm` with `seed`."""
    place, config = run_folder(study, arm, seed, folder), study.run_config(arm, seed)
    return Job(
        name=f"{arm.label}-seed{seed}",
        folder=place,
        steps=arm.training.steps,
        finished=partial(finished_run, study, arm, seed, place),
        here=partial(carry_out, study, arm, seed, place),
        prepare=partial(open_run, place, config),
        only_here=only_here(arm.architecture, arm.config, study.config.data, study.of_runs()),
        arm=arm.label,
        # Outside code may keep something from one run to the next; an arm's memory is that of its first run.
        alone=takes_outside_code(config) or seed == study.config.seeds[0],
        turn=study.config.seeds.index(seed),
    )


def run_folder(study: Study, arm: ResolvedArm, seed: int, folder: Path) -> Path:
    """Where the run of `arm` with `seed` lies in the study's folder."""
    return folder / "runs" / study.run_name(arm, seed)
