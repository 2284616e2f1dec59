"""`assay train`: one architecture, one seed."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import StudyOptions, parse_seed, with_study_options


@with_study_options
def train(
    architecture: Annotated[str, typer.Argument(help="A name from `assay list`.")],
    seed: Annotated[str, typer.Option(help="The seed of the run.")] = "0",
    *,
    options: StudyOptions,
) -> None:
    """Train one architecture with one seed and measure it. The same command continues an interrupted run."""
    from assay.cli.progress import StudyProgress
    from assay.cli.show import show_run
    from assay.study import run

    config = options.study([architecture], [parse_seed(seed)])
    folder = options.out or Path("runs") / f"train-{config.identity()[:10]}"
    with StudyProgress(config.training.batch_tokens, single=architecture) as progress:
        record = run.train(config, folder, progress.message, [progress.step])
    show_run(record, folder, options.json)
    raise typer.Exit(0 if record.status == "finished" else 1)
