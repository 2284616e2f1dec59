"""`assay compare`: train architectures side by side and show what that resolves."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import StudyOptions, parse_seeds, with_study_options


@with_study_options
def compare(
    architectures: Annotated[
        list[str] | None, typer.Argument(help="Names from `assay list`.", show_default="gpt1 rwkv6 mamba2")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (3), or which (0,5,7).", show_default="3")] = None,
    *,
    options: StudyOptions,
) -> None:
    """Train architectures side by side under one protocol and rank them, with intervals.

    The same command continues an interrupted study and shows a finished one.
    """
    from assay.cli.progress import StudyProgress
    from assay.cli.show import show_study
    from assay.study import compare as study

    config = options.study(architectures, None if seeds is None else parse_seeds(seeds))
    folder = options.out or Path("runs") / f"compare-{config.identity()[:10]}"
    with StudyProgress(config.training.batch_tokens) as progress:
        record = study.compare(config, folder, progress)
    show_study(record, folder, options.json)
    raise typer.Exit(1 if all(arm.diverged for arm in record.arms) else 0)
