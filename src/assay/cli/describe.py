"""`assay describe`: what an architecture is made of and costs, at given dimensions."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from assay.cli.options import Json, Match, Plugin, Set, Size, load_plugins, parse_count, setting_path
from assay.config import parse_assignment
from assay.errors import RequestError


def describe(
    architecture: Annotated[str, typer.Argument(help="A name from `assay list`.")],
    size: Size = None,
    match: Match = None,
    context: Annotated[str, typer.Option(help="Tokens of context for FLOPs and state.")] = "256",
    set_: Set = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Describe an architecture: citation, dimensions, parameters by group, FLOPs per token, state bytes.

    Without --size: its published dimensions and those given by --set.
    """
    load_plugins(plugin)
    facts = _facts(architecture, size, match, parse_count("--context", context), set_ or [])
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _show(facts)


def _facts(
    architecture: str, size: str | None, match: str | None, context: int, assignments: list[str]
) -> dict[str, Any]:
    from assay.model.accounting import count_flops, count_parameters, count_state_bytes
    from assay.model.architecture import ARCHITECTURES
    from assay.model.sizing import Decoding, build_on_meta
    from assay.study.protocol import StudyConfig, arm_dimensions, size_arm

    item = ARCHITECTURES.get(architecture)
    dimensions: dict[str, Any] = {}
    for text in assignments:
        key, value = parse_assignment(text)
        path = setting_path(key, [architecture])
        if not path.startswith("model."):
            raise RequestError(f"--set {key}: no dimension of a model; {', '.join(item.config.model_fields)} are")
        dimensions[path.split(".")[-1]] = value
    values = {
        "architectures": [architecture],
        "size": None if size is None else parse_count("--size", size),
        "match": match or "total",
        "model": dimensions,
    }
    study = StudyConfig.parse(values, {"match": "--match"})
    config = size_arm(item, study, arm_dimensions(item, study), Decoding(context))
    model = build_on_meta(item, config)
    return {
        "architecture": item.name,
        "summary": item.summary,
        "citation": item.citation,
        "dimensions": config.model_dump(mode="json"),
        "parameters": count_parameters(model).model_dump(),
        "flops_per_token": count_flops(model, context).model_dump(),
        "state_bytes": count_state_bytes(model, context),
        "context": context,
        "shapes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
    }


def _show(facts: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{facts['architecture']}[/bold]  {facts['summary']}", f"{facts['citation']}", "", sep="\n")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts["dimensions"].items():
        table.add_row(name, str(value))
    parameters = facts["parameters"]
    table.add_row("", "")
    table.add_row("parameters", f"{parameters['total']:,}")
    for group, count in parameters["groups"].items():
        table.add_row(f"  {group}", f"{count:,}")
    table.add_row("FLOPs per token", f"{facts['flops_per_token']['forward']:,} forward, context {facts['context']}")
    table.add_row("state bytes", f"{facts['state_bytes']:,} after {facts['context']} tokens, float32")
    console.print(table, "")
    shapes = Table(box=None, show_header=False, pad_edge=False, title="parameters", title_justify="left")
    for name, shape in facts["shapes"].items():
        shapes.add_row(name, " x ".join(map(str, shape)))
    console.print(shapes)
