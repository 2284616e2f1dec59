"""`assay list`: what there is on each plug-in axis."""

import json

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.cli.options import Json, Plugin, load_plugins


def list_all(plugin: Plugin = None, as_json: Json = False) -> None:
    """List architectures and corpora, a line each."""
    from assay.data.corpus import CORPORA
    from assay.model.architecture import ARCHITECTURES

    load_plugins(plugin)
    axes = {
        "architectures": {
            item.name: item.summary if item.unsound is None else f"UNSOUND: {item.summary}" for item in ARCHITECTURES
        },
        "corpora": {item.name: item.description for item in CORPORA},
    }
    if as_json:
        typer.echo(json.dumps(axes))
        return
    for axis, items in axes.items():
        table = Table(title=axis, title_justify="left", box=None, show_header=False, pad_edge=False)
        for name, text in items.items():
            table.add_row(Text(name), Text(text))
        Console().print(table, "")
