"""How a finished study and a finished run look in the terminal."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from assay.analysis.under_floors import in_short
from assay.records.results import LIKELIHOOD
from assay.report.answer import answer
from assay.report.quantities import ends, written
from assay.report.table import study_table

if TYPE_CHECKING:
    from assay.records import Column, Floor, MeasuredRun, StudyRecord


def show_study(study: "StudyRecord", folder: Path, as_json: bool) -> None:
    """Print the table, the floors, the pairs and where the page is; with `as_json` the record in one line."""
    report = folder / (study.report or "report.html")
    if as_json:
        typer.echo(json.dumps({**json.loads(study.content()), "folder": str(folder), "report": str(report)}))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    console.print(Text(answer(study), "bold"))
    console.print()
    console.print(study_table(study))
    console.print(f"\nreport: {report}", soft_wrap=True, markup=False)


def show_run(
    measured: "MeasuredRun", folder: Path, as_json: bool, floors: Mapping[str, "Floor"], data: Mapping[str, Any]
) -> None:
    """Print what one run came to, beside the floors and the sizes of the splits.

    With `as_json` the record and the values of what was measured in one line. `data` sums up its corpus or task.
    """
    run = measured.record
    if as_json:
        values = {name: json.loads(result.content())["values"] for name, result in measured.results.items()}
        known = {name: floor.model_dump(mode="json") for name, floor in floors.items()}
        more = {"measurements": values, "floors": known, "corpus": data, "folder": str(folder)}
        typer.echo(json.dumps({**json.loads(run.content()), **more}))
        return
    architecture = "" if run.label == run.architecture else f" ({run.architecture})"
    seed = f"seed {run.seed}, replicate {run.replicate}" if run.replicate else f"seed {run.seed}"
    lines = [f"{run.label}{architecture}, {seed}: {run.status} after {run.steps} steps, {run.tokens:,} tokens"]
    counts = [f"{run.parameters.non_embedding:,} non-embedding"]
    if run.parameters.blocks_and_head is not None:
        counts.insert(0, f"{run.parameters.blocks_and_head:,} blocks and head")
    lines.append(f"{'parameters':<18}{run.parameters.total:,} ({', '.join(counts)})")
    if measured.scores is not None:
        scores = measured.scores
        bits = "" if scores.bits_per_byte is None else f", {scores.bits_per_byte:.3f} bits per byte"
        text = f"{scores.nats_per_token:.4f} nats per token, perplexity {scores.perplexity:.2f}{bits}"
        lines.append(f"{scores.split:<18}{text}")
    for name, floor in floors.items():
        beaten = measured.scores is not None and measured.scores.nats_per_token < floor.nats_per_token
        text = f"{floor.nats_per_token:.4f} nats per token, {'beaten' if beaten else 'not beaten'}"
        lines.append(f"{in_short(name, floor):<18}{text}")
    lines += [
        f"{name + ' split':<18}{of['documents']:,} documents, {of['tokens']:,} tokens, {of['bytes']:,} bytes"
        for name, of in data.get("splits", {}).items()
    ]
    for name, result in measured.results.items():
        if name != LIKELIHOOD:
            lines.append(f"{name:<18}{', '.join(map(in_words, result.columns))}")
            lines += [f"{'':<18}{sentence}" for sentence in result.sentences]
    lines.append(f"{'while training':<18}{run.train_tokens_per_second:,.0f} tokens/s, beside whatever else ran")
    if run.chain_broken:
        lines.append(f"{'not bit for bit':<18}resumed elsewhere: {run.chain_broken}")
    typer.echo("\n".join([*lines, f"folder: {folder}"]))


def in_words(column: "Column") -> str:
    """What a column shows, after its head."""
    between = ends(column)
    return f"{column.head} {written(column)}{f' ({between})' if between else ''}"
