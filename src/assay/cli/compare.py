"""`assay compare`: train arms side by side and show what that resolves."""

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.numbers import parse_looks, parse_seeds
from assay.cli.options import StudyOptions, with_study_options


@with_study_options
def compare(
    arms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARM",
            help="ARCH, ARCH:key=value,... or NAME=ARCH:key=value,...; keys are dimensions, training settings "
            "(lr, schedule, weight_decay, clip_norm, ...), size and replicate.",
            show_default="transformer++ rwkv7 gated-delta-net, with Muon on 1638400 bytes",
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (3), or which (0,5,7).", show_default="5")] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Several sizes instead of --size, each compared by itself: 0.5M,1M,2M.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="Compare the others with this arm only, not with each other.")
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(help="Seeds after which results are looked at, as 5,8,12: stops at the first that resolves all."),
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Runs at a time, or auto.", show_default="auto")] = None,
    *,
    options: StudyOptions,
) -> None:
    """Train architectures and variants of them side by side under one protocol and rank them, with intervals.

    The same command continues an interrupted study and shows a finished one; with more seeds, or in the folder of --out
    with more arms, it adds them. Exit status 1 if an arm is unsound, or all diverged.
    """
    from assay.cli.progress import StudyProgress
    from assay.cli.show import show_study
    from assay.study import compare as study
    from assay.study.executor.capacity import parse_workers

    number = parse_workers(workers)
    rule = {"baseline": baseline, "looks": None if looks is None else parse_looks("--looks", looks)}
    config = options.study(arms, None if seeds is None else parse_seeds("--seeds", seeds), sizes, rule=rule)
    folder = options.out or Path("runs") / f"compare-{config.identity()[:10]}"
    with StudyProgress(config.training.batch_tokens) as progress:
        record = study.compare(config, folder, progress, number)
    show_study(record, folder, options.json)
    unsound = any(arm.unsound is not None for arm in record.arms)
    raise typer.Exit(1 if unsound or all(arm.diverged for arm in record.arms) else 0)
