"""`assay audit`: whether a model cheats, and where."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.keys import setting_path
from assay.cli.numbers import parse_count, parse_seed
from assay.cli.options import Json, Plugin, Set, load_plugins
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.audit import AuditReport
    from assay.cli.progress import Stages
    from assay.records import Finding
    from assay.study.subject.subject import NamedModel


def audit(
    subject: Annotated[
        str,
        typer.Argument(help="ARCH or ARCH:key=value,..., the folder of a run or study, FILE.py, or hf:PATH."),
    ],
    honest: Annotated[bool, typer.Option("--honest", help="Score a trained model from prefixes alone too.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Longer sequences and more of everything.")] = False,
    size: Annotated[
        str | None, typer.Option(help="Parameters of an architecture's model.", show_default="300k")
    ] = None,
    set_: Set = None,
    vocab_size: Annotated[str | None, typer.Option(help="Ids that the model takes.", show_default="found")] = None,
    max_length: Annotated[str | None, typer.Option(help="Tokens that it takes at most.", show_default="found")] = None,
    lengths: Annotated[
        str | None, typer.Option(help="The only lengths that it takes, as in 64,128,256.", show_default="found")
    ] = None,
    seed: Annotated[str, typer.Option(help="Of the weights and of the tokens tried.")] = "0",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Look for every way in which a language model could cheat, and say where it does. Exit status 1 if unsound."""
    load_plugins(plugin)

    from assay.audit import audit as look
    from assay.cli.progress import Stages
    from assay.study.subject.lookup import named_models
    from assay.study.text_checks import data_checks, honest_scores

    fresh = _fresh(size, set_ or [], subject, parse_seed(seed))
    limits = {
        "vocab_size": None if vocab_size is None else parse_count("--vocab-size", vocab_size),
        "max_length": None if max_length is None else parse_count("--max-length", max_length),
    }
    only = None if lengths is None else [parse_count("--lengths", length) for length in lengths.split(",")]
    with Stages() as stages:
        subjects = named_models(subject, fresh)
        results: list[tuple[NamedModel, AuditReport, dict[str, Any] | None]] = []
        for item in subjects:
            scores = honest_scores(item, stages.tell) if honest else None
            report = look(
                item.model,
                limits["vocab_size"] or item.vocab_size,
                loss=item.loss,
                log_prob=item.log_prob,
                special_ids=item.special_ids,
                max_length=limits["max_length"],
                lengths=only,
                thorough=thorough,
                fresh=item.fresh,
                seed=fresh.seed,
                on_progress=partial(_tell, stages, item.name),
            )
            results.append((item, report, None if scores is None else scores.model_dump(mode="json")))
        data = data_checks(Path(subject), stages.tell) if subjects[0].run is not None else []
    sound = all(report.sound for _, report, _ in results) and all(finding.status != "fail" for finding in data)
    if as_json:
        typer.echo(json.dumps(_as_json(subject, sound, results, data)))
    else:
        _show(results, data)
    raise typer.Exit(0 if sound else 1)


def _tell(stages: "Stages", name: str, stage: str) -> None:
    stages.tell(f"{name}: {stage}")


def _fresh(size: str | None, assignments: list[str], subject: str, seed: int) -> Any:
    """How untrained models of the subject are built."""
    from assay.config import parse_assignment
    from assay.study.subject.fresh import Fresh
    from assay.study.subject.subject import parse_subject

    architecture = parse_subject(subject).architecture
    dimensions: dict[str, Any] = {}
    for text in assignments:
        key, value = parse_assignment(text)
        path = setting_path(key, {subject: architecture} if architecture else {})
        if not path.startswith("model."):
            raise RequestError(f"--set {key}: no dimension of a model")
        dimensions[path.split(".")[-1]] = value
    return Fresh(None if size is None else parse_count("--size", size), dimensions, seed)


def _as_json(
    subject: str,
    sound: bool,
    results: list[tuple["NamedModel", "AuditReport", dict[str, Any] | None]],
    data: list["Finding"],
) -> dict[str, Any]:
    """The result as JSON: the report of a single model at the top level; those of several in `models`."""
    reports = [
        {**report.as_dict(), "name": item.name, "honest": scores, "twin": _twin(item)}
        for item, report, scores in results
    ]
    top = reports[0] if len(reports) == 1 else {"models": reports}
    return {**top, "subject": subject, "sound": sound, "data": [finding.model_dump(mode="json") for finding in data]}


def _show(results: list[tuple["NamedModel", "AuditReport", dict[str, Any] | None]], data: list["Finding"]) -> None:
    from rich.console import Console

    from assay.cli.findings import findings_table, verdict_line

    console = Console(highlight=False)
    for item, report, scores in results:
        console.print(verdict_line(item.name, report))
        console.print(findings_table(report.findings))
        if not report.sound and item.architecture is not None and item.architecture.unsound is not None:
            console.print(f"known: {item.architecture.unsound}", markup=False)
        if not report.sound and _twin(item) is not None:
            console.print(f"{_twin(item)} is its causal twin", markup=False)
        if scores is not None:
            console.print(_honest_lines(scores), markup=False)
        console.print()
    if data:
        console.print(findings_table(data))


def _twin(item: "NamedModel") -> str | None:
    return None if item.architecture is None else item.architecture.sound_twin


def _honest_lines(scores: dict[str, Any]) -> str:
    interval = "" if scores["low"] is None else f" [{scores['low']:.4f}, {scores['high']:.4f}]"
    return (
        f"reported  {scores['reported_nats_per_token']:.4f} nats per token, "
        f"perplexity {scores['reported_perplexity']:.2f}\n"
        f"honest    {scores['honest_nats_per_token']:.4f} nats per token, "
        f"perplexity {scores['honest_perplexity']:.2f}, each token from its prefix alone\n"
        f"gained    {scores['difference']:.4f} nats per token{interval} on the same {scores['targets']:,} targets"
    )
