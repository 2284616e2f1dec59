"""How a finished study and a finished run look in the terminal."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from assay.report.table import study_table

if TYPE_CHECKING:
    from assay.records import RunRecord, StudyRecord


def show_study(study: "StudyRecord", folder: Path, as_json: bool) -> None:
    """Print the table, the floors, the pairs and where the page is; with `as_json` the record in one line."""
    report = folder / (study.report or "report.html")
    if as_json:
        typer.echo(json.dumps({**study.model_dump(mode="json"), "folder": str(folder), "report": str(report)}))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
    console.print(study_table(study))
    console.print(f"\nreport: {report}", soft_wrap=True, markup=False)


def show_run(run: "RunRecord", folder: Path, as_json: bool) -> None:
    """Print the results of one run; with `as_json` the record in one line."""
    if as_json:
        typer.echo(json.dumps({**run.model_dump(mode="json"), "folder": str(folder)}))
        return
    architecture = "" if run.label == run.architecture else f" ({run.architecture})"
    seed = f"seed {run.seed}, replicate {run.replicate}" if run.replicate else f"seed {run.seed}"
    lines = [f"{run.label}{architecture}, {seed}: {run.status} after {run.steps} steps, {run.tokens:,} tokens"]
    lines.append(f"parameters        {run.parameters.total:,} ({run.parameters.non_embedding:,} non-embedding)")
    for split, scores in (("test", run.test), ("validation", run.validation)):
        if scores is not None:
            bits = "" if scores.bits_per_byte is None else f", {scores.bits_per_byte:.3f} bits per byte"
            text = f"{scores.nats_per_token:.4f} nats per token, perplexity {scores.perplexity:.2f}{bits}"
            lines.append(f"{split:<18}{text}")
    if run.signals_trained is not None:
        growth = f"{run.signals_trained.growth_without_embedding:.2f}x over the blocks"
        lines.append(f"residual stream   {growth}: {run.signals_trained.verdict_without_embedding}")
    if run.output_health is not None:
        lines.append(f"output            {run.output_health.verdict}")
    lines.append(f"while training    {run.train_tokens_per_second:,.0f} tokens/s, beside whatever else ran")
    if run.chain_broken:
        lines.append(f"not bit for bit   resumed elsewhere: {run.chain_broken}")
    typer.echo("\n".join([*lines, f"folder: {folder}"]))
