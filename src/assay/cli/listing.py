"""`assay list`: what there is on each plug-in axis; `assay list runs`: what was studied."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.axes import AXES, Axes, ask, axes
from assay.cli.options import Json, Plugin, load_plugins
from assay.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console


def list_all(
    what: Annotated[
        str | None,
        typer.Argument(help="architectures, corpora, tasks, measurements or runs.", show_default="all but runs"),
    ] = None,
    folder: Annotated[Path | None, typer.Argument(help="With runs: where they lie.", show_default="runs")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """List what there is on each axis, a line each; or studies and runs: what they asked, their state, the answer."""
    if what == "runs":
        _list_runs(folder or Path("runs"), as_json)
        return
    if what not in (None, *AXES):
        raise RequestError(f"list {what}: unknown; there is {', '.join(AXES)} and runs [FOLDER]")
    if folder is not None:
        raise RequestError(f"list {what} {folder}: only `assay list runs` takes a folder")
    load_plugins(plugin)
    found = ask() if plugin else axes()
    chosen = {axis: items for axis, items in found.items() if what in (None, axis)}
    if as_json:
        typer.echo(json.dumps(chosen))
        return
    console = _console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        _print_lines(chosen)
        return
    _print_tables(console, chosen)


def _print_tables(console: "Console", axes: Axes) -> None:
    """As wide as the terminal."""
    from rich.table import Table
    from rich.text import Text

    for axis, items in axes.items():
        table = Table(title=axis, title_justify="left", box=None, show_header=False, pad_edge=False)
        for name, text in items.items():
            table.add_row(Text(name), Text(text))
        console.print(table, "")


def _print_lines(axes: Axes) -> None:
    """A line each, without a width."""
    for axis, items in axes.items():
        typer.echo(axis)
        wide = max(map(len, items), default=0)
        for name, text in items.items():
            typer.echo(f"{name:<{wide}}  {text}")
        typer.echo()


def _console() -> "Console":
    """As wide as the terminal; for a file or another program a line each, however long."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 10_000
    return Console(highlight=False, width=wide)


def _list_runs(folder: Path, as_json: bool) -> None:
    """Needs no torch."""
    from rich.text import Text

    from assay.report.inventory import inventory

    entries = inventory(folder)
    if as_json:
        typer.echo(json.dumps({"runs": [entry.model_dump() for entry in entries]}))
        return
    console = _console()
    if not entries:
        console.print(f"{folder}: no studies and no runs", markup=False)
    for entry in entries:
        console.print(Text(entry.folder, "bold") + Text(f"  {entry.kind}, {entry.state}", "not bold"))
        for line in filter(None, (entry.asked, entry.answer)):
            console.print(Text(f"  {line}"))
