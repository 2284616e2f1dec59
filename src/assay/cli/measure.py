"""`assay measure`: shows the measurements of finished runs and other models, and makes those that are missing."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.keys import PATHS
from assay.cli.numbers import parse_count, parse_names, parse_seed
from assay.cli.options import (
    COUNTS,
    Context,
    Corpus,
    Json,
    MaxBytes,
    Plugin,
    Task,
    TextField,
    Tokenizer,
    load_plugins,
)
from assay.cli.program import as_called
from assay.cli.streams import tell

if TYPE_CHECKING:
    from assay.analysis.character.character import Character
    from assay.study.measure.runs import Looked, Row


def measure(
    subjects: Annotated[
        list[str], typer.Argument(metavar="SUBJECT", help="The folder of a study or run, ARM, FILE.py, or hf:PATH.")
    ],
    only: Annotated[
        str | None, typer.Option(help="Only these measurements or groups: NAME|GROUP,....", show_default="all")
    ] = None,
    corpus: Corpus = None,
    tokenizer: Tokenizer = None,
    text_field: TextField = None,
    max_bytes: MaxBytes = None,
    task: Task = None,
    context: Context = None,
    size: Annotated[str | None, typer.Option(help="Parameters of an untrained arm.", show_default="250k")] = None,
    seed: Annotated[str | None, typer.Option(help="Of an untrained arm.", show_default="0")] = None,
    at: Annotated[
        str | None, typer.Option(help="Only these weights: init, trained, where both can be had.", show_default="both")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller protocols where there are some; said with the result.")
    ] = False,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Measure what finished runs and studies lack, without training, and show all that was measured of them.

    Results lie beside their runs, and a study's page shows them. Models from elsewhere (an untrained ARM, FILE.py,
    hf:PATH) are measured on the text of the data options. What untrained arms gave is kept in the cache, so that the
    same command goes on where it was interrupted; of hf:PATH nothing is stored. With --task models from elsewhere and
    trained runs are measured on that task, through their own tokenizers; of trained runs nothing is stored then.
    """
    load_plugins(plugin)

    from assay.cli.progress import Stages
    from assay.study.measure.how import How, parse_moments
    from assay.study.measure.subjects import characters_of, look_at_all

    names = None if only is None else parse_names("--only", only)
    given = {
        "corpus": corpus,
        "tokenizer": tokenizer,
        "text_field": text_field,
        "max_bytes": max_bytes,
        "task": task,
        "context": context,
        "size": size,
    }
    settings = _settings(given, seed)
    how = How(quick) if at is None else How(quick, parse_moments(parse_names("--at", at)))
    with Stages() as stages:
        looked = look_at_all(subjects, names, settings, stages.tell, how)
    told = characters_of(looked)
    if as_json:
        said = [of.values() for of in told]
        typer.echo(json.dumps({"subjects": [_as_json(one) for one in looked], "characters": said}))
    else:
        _show(looked, told)
    for line in dict.fromkeys(note for one in looked for note in one.notes):
        tell(f"assay: {as_called(line)}")
    if not any(one.rows for one in looked):
        raise typer.Exit(2)


def _settings(given: dict[str, str | None], seed: str | None) -> dict[str, Any]:
    """Data options as the keys of config.yaml, nested; empty where none was given."""
    from assay.config import merge, nested

    settings: dict[str, Any] = {}
    for name, text in given.items():
        if text is not None:
            value = parse_count(f"--{name.replace('_', '-')}", text) if name in COUNTS else text
            settings = merge(settings, nested(PATHS[name], value))
    return settings if seed is None else {**settings, "seeds": [parse_seed(seed)]}


def _as_json(one: "Looked") -> dict[str, Any]:
    return {
        "subject": one.subject,
        "rows": [
            {"name": row.name, "seeds": row.seeds, "columns": [json.loads(of.model_dump_json()) for of in row.columns]}
            for row in one.rows
        ],
        "results": {
            whose: {name: json.loads(result.content()) for name, result in results.items()}
            for whose, results in one.results.items()
        },
        "sentences": one.sentences,
        "added": one.added,
        "notes": one.notes,
    }


def _show(looked: list["Looked"], told: list["Character"]) -> None:
    """All rows in one table, then the sentences, and what they come to."""
    from rich.console import Console
    from rich.text import Text

    from assay.cli.show_character import show_character
    from assay.report.rows import MeasuredRow, RowsTable

    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    several = len(looked) > 1
    rows = [
        MeasuredRow(row.name, _under(one.subject if several else "", row), row.columns)
        for one in looked
        for row in one.rows
    ]
    if rows:
        console.print(RowsTable(rows))
    for line in (sentence for one in looked for sentence in one.sentences):
        console.print(Text(line))
    for of in told:
        show_character(of, console)
    for one in looked:
        if (Path(one.subject) / "report.html").exists():
            console.print(f"report: {Path(one.subject) / 'report.html'}", soft_wrap=True, markup=False)


def _under(subject: str, row: "Row") -> str:
    """The second line of a row: of which of several subjects it is, unless its name says so, and its seeds."""
    counted = f"{row.seeds} seeds" if row.seeds > 1 else ""
    whose = Path(subject).name if subject and subject != row.name else ""
    return ", ".join(part for part in (whose, counted) if part)
