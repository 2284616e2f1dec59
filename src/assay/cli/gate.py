"""`assay gate`: whether a candidate deserves to be scaled, by a plan and a rule written before the first run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.numbers import parse_count, parse_counts, parse_rates, parse_real
from assay.cli.options import StudyOptions, with_study_options
from assay.errors import RequestError


@with_study_options
def gate(
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="CANDIDATE|STUDY",
            help="Arms as in compare, or the folder of a finished gate or study that is judged again, without torch.",
        ),
    ],
    against: Annotated[str | None, typer.Option(metavar="BASELINE", help="The arm that a candidate must beat.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time on this machine (30m, 8h) or FLOPs (1e15flops); chooses the sizes.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="The name of one that comes along, or a YAML file.", show_default="assay"),
    ] = None,
    sizes: Annotated[str | None, typer.Option(help="Sizes of all arms, in place of those of the budget.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Judged runs of an arm at a size.", show_default="3 below an hour, else 5")
    ] = None,
    tokens_per_parameter: Annotated[str | None, typer.Option(help="That each run reads.", show_default="20")] = None,
    placebo: Annotated[
        bool,
        typer.Option("--placebo", help="Judge the baseline against itself, and on half the tokens, in the same plan."),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Measure recall, statefulness and long context even where the rule does not."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the plan.")] = False,
    workers: Annotated[str | None, typer.Option(help="Runs at a time, or auto.", show_default="auto")] = None,
    *,
    options: StudyOptions,
) -> None:
    """Decide whether CANDIDATE deserves to be scaled: GO (status 0), NO-GO (1) or UNDECIDED (3).

    It plans to the budget, tunes all arms alike, trains them at several sizes and judges the compute-equivalent gain by
    its interval. The same command continues an interrupted gate.
    """
    from assay.analysis.gate.rule import DEFAULT_RULE, read_rule

    if against is None or (len(arms) == 1 and Path(arms[0]).is_dir()):
        _judge_again(arms, against, rule, options)
        return
    from assay.cli.progress import StudyProgress
    from assay.cli.show_gate import show_gate, show_plan
    from assay.gating.asked import BATCH_TOKENS, RATES, TOKENS_PER_PARAMETER, GateRequest, parse_budget
    from assay.gating.carry_out import carry_out_gate
    from assay.records.gate import GatePlan
    from assay.study.executor.capacity import parse_workers

    if against in arms:
        raise RequestError(
            f"{against}: is the baseline {against} itself; another arm, or --placebo to judge the baseline against "
            "itself, would do"
        )
    for option, given in (("--size", options.size), ("--tokens", options.tokens)):
        if given is not None:
            raise RequestError(f"{option} {given}: a gate has --sizes or --budget, and --tokens-per-parameter")
    if options.batch_tokens is None and options.config is None:
        options = replace(options, batch_tokens=str(BATCH_TOKENS))
    grid = list(RATES) if options.lr is None else parse_rates("--lr", options.lr)
    study = replace(options, lr=None).study([*arms, against], [0])
    request = GateRequest(
        candidates=study.arms[:-1],
        baseline=study.arms[-1],
        study=study,
        rule=read_rule(rule or DEFAULT_RULE),
        budget=None if budget is None else parse_budget(budget),
        sizes=[] if sizes is None else parse_counts("--sizes", sizes),
        seeds=None if seeds is None else parse_count("--seeds", seeds),
        rates=sorted(grid),
        tokens_per_parameter=TOKENS_PER_PARAMETER
        if tokens_per_parameter is None
        else parse_real("--tokens-per-parameter", tokens_per_parameter),
        placebo=placebo,
        memory=memory,
    )
    folder = options.out or Path("runs") / f"gate-{request.identity()[:10]}"
    with StudyProgress(study.training.batch_tokens) as progress:
        found = carry_out_gate(request, folder, progress, parse_workers(workers), dry_run)
    if isinstance(found, GatePlan):
        show_plan(found, folder, options.json)
        return
    raise typer.Exit(show_gate(found, folder, options.json))


def _judge_again(arms: list[str], against: str | None, rule: str | None, options: StudyOptions) -> None:
    """Judge a finished gate or study by a rule, from its records."""
    from assay.cli.show_gate import show_gate
    from assay.verdict import judge_again

    if len(arms) != 1 or not Path(arms[0]).is_dir():
        raise RequestError(
            "--against: missing; the arm to beat, or the folder of a finished gate in place of CANDIDATE, would do"
        )
    record, folder = judge_again(Path(arms[0]), against, rule)
    raise typer.Exit(show_gate(record, folder, options.json))
