"""`assay train`: trains one arm with one seed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.numbers import parse_seed
from assay.cli.options import StudyOptions, with_study_options
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.study.resolve import Study


@with_study_options
def train(
    arm: Annotated[
        str | None, typer.Argument(help="ARCH, or ARCH:key=value,...; left out where --config names it.")
    ] = None,
    seed: Annotated[str | None, typer.Option(help="The seed of the run.", show_default="0")] = None,
    *,
    options: StudyOptions,
) -> None:
    """Train one arm with one seed and measure it. The same command continues an interrupted run.

    With --config RUN/config.yaml it repeats that run, to the same bytes on the same machine.
    """
    from assay.analysis.wording import counted
    from assay.cli.progress import StudyProgress
    from assay.cli.show import show_run
    from assay.study import run
    from assay.study.conclude import measure_floors

    if arm is None and options.config is None:
        raise RequestError("ARM: missing; a name from `assay list`, or --config RUN/config.yaml, would do")
    seeds = None if seed is None else [parse_seed(seed)]
    config = options.study(None if arm is None else [arm], seeds, default_seeds=[0])
    if len(config.points()) != 1 or len(config.seeds) != 1:
        raise RequestError(
            f"train: {counted(len(config.points()), 'arm')} and {counted(len(config.seeds), 'seed')} were asked for, a "
            "run has one of each; `assay compare` takes several"
        )
    folder = options.out or Path("runs") / f"train-{config.run_identity()[:10]}"
    studies: list[Study] = []

    def found(study: "Study", finished: bool) -> None:
        studies.append(study)
        if finished:
            progress.notice(f"{folder}: finished before; shown again, nothing is trained")

    with StudyProgress(config.training.batch_tokens, single=config.arms[0].label) as progress:
        trained = run.train(config, folder, progress.message, [progress.single_step], found)
        floors = measure_floors(studies[0])
    show_run(trained, folder, options.json, floors, studies[0].dataset.summary())
    raise typer.Exit(0 if trained.record.status == "finished" else 1)
