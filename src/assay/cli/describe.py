"""`assay describe`: what an architecture is made of and costs, what a measurement or a task asks."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.keys import setting_path
from assay.cli.numbers import parse_count
from assay.cli.options import Json, Match, Plugin, Set, Size, hold_to_contract, load_plugins, parse_arm
from assay.errors import RequestError

if TYPE_CHECKING:
    from rich.table import Table

    from assay.data.task import Task
    from assay.data.worded.task import TextTask
    from assay.study.arm import ArmConfig


Texts = tuple[str, str]
"""The shape of a parameter, and what the optimizer does with it."""


def describe(
    architecture: Annotated[
        str, typer.Argument(metavar="ARM|NAME", help="A name from `assay list`, or ARCH:key=value,....")
    ],
    size: Size = None,
    match: Match = None,
    context: Annotated[str, typer.Option(help="Tokens of context for FLOPs and state.")] = "256",
    set_: Set = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Describe an architecture: citation, dimensions, parameters by group, FLOPs per token, state bytes.

    Without --size: the defaults of its recipe and what --set gives. With it: those of a study of bytes, unless
    --set vocab_size=N says otherwise. Of a measurement: question, unit, what it needs; of a task: axes, vocabulary,
    floor.
    """
    checked = load_plugins(plugin)
    if (asked := _measurement(architecture)) is not None:
        typer.echo(json.dumps(asked)) if as_json else _show_measurement(asked)
        return
    if (facts := _task(architecture)) is not None:
        typer.echo(json.dumps(facts)) if as_json else _show_task(facts)
        return
    arm = parse_arm(architecture)
    hold_to_contract(name for name in [arm.architecture] if name not in checked)
    facts = _facts(arm, size, match, parse_count("--context", context), set_ or [])
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _show(facts)


def _measurement(name: str) -> dict[str, Any] | None:
    """What the measurement called `name` says of itself; None where there is none, or an architecture is called so."""
    from assay.evaluation.measurement import MEASUREMENTS, Measurement
    from assay.model.architecture import ARCHITECTURES

    if name in ARCHITECTURES.names() or name not in MEASUREMENTS.names():
        return None
    item, origin = MEASUREMENTS.get(name), MEASUREMENTS.origin(name)
    return {
        "measurement": item.name,
        "question": item.question,
        "about": inspect.getdoc(type(item)) or "",
        "unit": item.unit,
        "group": item.group,
        "scope": item.scope,
        "needs": sorted(item.needs) if isinstance(item, Measurement) else [],
        "version": item.version,
        "values": {name: _type(field.annotation) for name, field in item.record.model_fields.items()},
        "brought_by": f"{origin.kind} {origin.name}",
    }


def _task(text: str) -> dict[str, Any] | None:
    """What the task that NAME or NAME:axis=value names says of itself; None where there is none of that name."""
    from assay.data.task import TASKS, find_task
    from assay.model.architecture import ARCHITECTURES

    name = text.partition(":")[0]
    if name in ARCHITECTURES.names() or name not in TASKS.names():
        return None
    (task, axes), origin = find_task(text), TASKS.origin(name)
    return {
        "task": task.name,
        "summary": task.summary,
        "citation": task.citation,
        "axes": axes.model_dump(mode="json"),
        **_of_ids(task, axes),
        "version": task.version,
        "brought_by": f"{origin.kind} {origin.name}",
    }


def _of_ids(task: "Task | TextTask", axes: Any) -> dict[str, Any]:
    """What follows from ids alone; a task in words has those of the run's tokenizer."""
    from assay.data.task import Task

    if not isinstance(task, Task):
        return {"vocab_size": None, "shortest_context": None, "chance_nats_per_target": None}
    return {
        "vocab_size": task.vocab_size(axes),
        "shortest_context": task.shortest(axes),
        "chance_nats_per_target": task.chance_nats(axes),
    }


def _show_task(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    console.print(Text(facts["task"], "bold") + Text(f"  {facts['summary']}", "not bold"))
    console.print(facts["citation"])
    console.print()
    table = _table()
    for name, value in facts["axes"].items():
        table.add_row(name, Text("by the context" if value is None else str(value)))
    table.add_row("", "")
    if facts["vocab_size"] is None:
        table.add_row("in words", "vocabulary, shortest context and chance are those of --tokenizer")
    else:
        table.add_row("vocabulary", f"{facts['vocab_size']:,} ids")
        table.add_row("context", f"at least {facts['shortest_context']:,} tokens")
        table.add_row("chance", f"{facts['chance_nats_per_target']:.4g} nats per target")
    table.add_row("brought by", Text(facts["brought_by"]))
    console.print(table)


def _type(annotation: Any) -> str:
    """A type in few words: without the modules that its parts are from."""
    return annotation.__name__ if isinstance(annotation, type) else re.sub(r"[a-z_]\w*\.", "", str(annotation))


def _show_measurement(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    console.print(Text(facts["measurement"], "bold") + Text(f"  {facts['question']}", "not bold"))
    console.print(facts["about"])
    console.print()
    table = _table()
    for name in ("unit", "group", "scope", "version", "brought_by"):
        table.add_row(name.replace("_", " "), Text(str(facts[name])))
    table.add_row("needs", ", ".join(facts["needs"]) or "all arms of a study")
    table.add_row("", "")
    table.add_row("values", "")
    for name, kind in facts["values"].items():
        table.add_row(f"  {name}", Text(kind))
    console.print(table)


def _facts(
    arm: "ArmConfig", size: str | None, match: str | None, context: int, assignments: list[str]
) -> dict[str, Any]:
    from assay.config import parse_assignment
    from assay.data.text.tokenizer import BYTES_VOCAB_SIZE
    from assay.model.accounting import count_flops, count_parameters, count_state_bytes
    from assay.model.architecture import ARCHITECTURES
    from assay.model.optimizer_roles import optimizer_roles
    from assay.model.sizing import Decoding, build_on_meta
    from assay.records import DEFAULT_MATCH
    from assay.study.subject.fresh import arm_config

    item = ARCHITECTURES.get(arm.architecture)
    dimensions = dict(arm.model)
    for text in assignments:
        key, value = parse_assignment(text)
        path = setting_path(key, {item.name: item.name})
        if not path.startswith("model."):
            raise RequestError(f"--set {key}: no dimension of a model; {', '.join(item.config.model_fields)} are")
        dimensions[path.split(".")[-1]] = value
    size_asked = arm.size if size is None else parse_count("--size", size)
    arm = arm.model_copy(update={"model": dimensions})
    vocab_size = None if size_asked is None else BYTES_VOCAB_SIZE
    config = arm_config(arm, size_asked, match or DEFAULT_MATCH, Decoding(context), vocab_size)
    model = build_on_meta(item, config)
    return {
        "architecture": item.name,
        "summary": item.summary,
        "citation": item.citation,
        "unsound": item.unsound,
        "sound_twin": item.sound_twin,
        "dimensions": config.model_dump(mode="json"),
        "dimensions_from": _dimensions_from(size_asked, vocab_size if "vocab_size" not in dimensions else None),
        "parameters": count_parameters(model).model_dump(),
        "flops_per_token": count_flops(model, context).model_dump(),
        "state_bytes": count_state_bytes(model, context),
        "context": context,
        "heads": "tied" if model.untied_head is None else "untied",
        "published_heads": item.published_head,
        "shapes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
        "optimizer": {name: role._asdict() for name, _, role in optimizer_roles(model)},
    }


def _dimensions_from(size: int | None, vocab_size: int | None) -> str:
    """Where the dimensions are from; `vocab_size` is that of bytes, None where another is set."""
    if size is None:
        return "the defaults of its recipe"
    return f"solved for --size {size:,}{'' if vocab_size is None else ' and text as bytes'}"


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    console.print(Text(facts["architecture"], "bold") + Text(f"  {facts['summary']}", "not bold"))
    console.print(facts["citation"])
    if facts["unsound"] is not None:
        twin = "" if facts["sound_twin"] is None else f"; {facts['sound_twin']} is its causal twin"
        console.print(Text(f"UNSOUND: {facts['unsound']}{twin}", "bold red"))
    console.print()
    table = _table()
    table.add_row("dimensions", facts["dimensions_from"])
    for name, value in facts["dimensions"].items():
        if name != "heads":  # said below, beside what its authors have
            table.add_row(f"  {name}", Text("by its own rule" if value is None else str(value)))
    parameters, flops = facts["parameters"], facts["flops_per_token"]
    as_published = facts["heads"] == facts["published_heads"]
    other = "as published" if as_published else f"published {facts['published_heads']}: --set heads=published"
    table.add_row("  heads", f"{facts['heads']}, {other}")
    table.add_row("", "")
    table.add_row("parameters", f"{parameters['total']:,}")
    for group, count in parameters["groups"].items():
        table.add_row(f"  {group}", f"{count:,}")
    table.add_row("  blocks and head", f"{parameters['blocks_and_head']:,}, what --match blocks+head counts")
    table.add_row("  non-embedding", f"{parameters['non_embedding']:,}, without tables and heads")
    table.add_row("FLOPs per token", f"{flops['forward']:,} forward, context {facts['context']}")
    if flops["executed"] is not None:
        table.add_row("  executed", f"{round(flops['executed']):,} in matrix products, chunked form")
        for operation, count in flops["uncounted"].items():
            table.add_row("", f"{round(count):,} {operation}")
    table.add_row("state bytes", f"{facts['state_bytes']:,} after {facts['context']} tokens, float32")
    console.print(table)
    console.print()
    shapes = _table(
        title="parameters: shape, weight decay, learning rate, whether a matrix for Muon", title_justify="left"
    )
    roles = facts["optimizer"]
    said = {name: (" x ".join(map(str, of)), _in_words(**roles[name])) for name, of in facts["shapes"].items()}
    for name, texts in _without_repeats(said):
        shapes.add_row(name, *texts)
    console.print(shapes)


def _table(**options: Any) -> "Table":
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False, **options)


def _in_words(decay: bool, rate_factor: float, matrix: bool) -> str:
    """What the optimizer does with a parameter."""
    rate = "" if rate_factor == 1 else f", rate x {rate_factor:g}"
    return f"{'decay' if decay else 'no decay'}{rate}{', a matrix' if matrix else ''}"


def _without_repeats(said: dict[str, Texts]) -> Iterator[tuple[str, Texts]]:
    """Rows of (parameter, what is said of it); a block that is like the one before it is only named."""
    blocks: dict[str, dict[str, Texts]] = {}
    rest: list[tuple[str, Texts]] = []
    for name, texts in said.items():
        if name.startswith("blocks."):
            _, number, parameter = name.split(".", 2)
            blocks.setdefault(number, {})[parameter] = texts
        else:
            rest.append((name, texts))
    before: dict[str, Texts] = {}
    alike: list[str] = []
    yield from (row for row in rest if row[0].startswith("embedding."))
    for number, parameters in blocks.items():
        if parameters == before:
            alike.append(number)
            continue
        yield from _alike(alike)
        alike, before = [], parameters
        for parameter, texts in parameters.items():
            yield f"blocks.{number}.{parameter}", texts
    yield from _alike(alike)
    yield from (row for row in rest if not row[0].startswith("embedding."))


def _alike(numbers: list[str]) -> Iterator[tuple[str, Texts]]:
    if numbers:
        last = "" if len(numbers) == 1 else f" to {numbers[-1]}"
        yield f"blocks.{numbers[0]}{last}", (f"as blocks.{int(numbers[0]) - 1}", "")
