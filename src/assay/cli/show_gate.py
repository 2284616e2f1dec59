"""How a gate's plan and verdict look in the terminal."""

import json
import os
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.analysis.gate.budgets import budget_curve
from assay.analysis.wording import counted, short
from assay.records.gate import CandidateVerdict, GatePlan, GateRecord
from assay.report import quantities

STATUS = {"GO": 0, "NO-GO": 1, "UNDECIDED": 3}


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def show_gate(record: GateRecord, folder: Path, as_json: bool) -> int:
    """Print the verdict and what it rests on; return the exit status."""
    if as_json:
        page = str(folder / "gate.html")
        typer.echo(json.dumps({**json.loads(record.content()), "folder": str(folder), "report": page}))
        return STATUS[record.verdict]
    console = _console()
    for line in record.headline:
        console.print(Text(line, "bold"))
    for line in [
        *record.changed,
        *(f"a check failed before the judged runs: {line}" for line in record.sanity),
        *record.prediction,
    ]:
        console.print(Text(line))
    for verdict in record.verdicts:
        _show_verdict(console, verdict)
    _show_budgets(console, record)
    console.print(f"\nreport: {folder / 'gate.html'}", soft_wrap=True, markup=False)
    return STATUS[record.verdict]


def _show_verdict(console: Console, verdict: CandidateVerdict) -> None:
    if verdict.closing:
        console.print(Text(f"{verdict.label}: {verdict.closing}"))
    if verdict.gains:
        table = Table(title=f"\n{verdict.label}: gain over the baseline", box=None, title_justify="left")
        axes = list(dict.fromkeys(gain.per for gain in verdict.gains))
        table.add_column("size")
        for axis in axes:
            table.add_column(f"per {axis.replace('_', ' ')}")
        for size in dict.fromkeys(gain.size for gain in verdict.gains):
            texts = {gain.per: gain.text for gain in verdict.gains if gain.size == size}
            table.add_row(short(size), *(texts.get(axis, "-") for axis in axes))
        console.print(table)
    if verdict.trend:
        console.print(Text(f"trend {verdict.trend}"))
    for one in verdict.criteria:
        required = " (required)" if one.required else ""
        console.print(Text(f"{one.state:5} {one.text}{required}{'; ' + one.closing if one.closing else ''}"))
    for mark in verdict.marks:
        value = "not measured" if mark["value"] is None else f"{mark['value']:.3g}, {mark['grade']}"
        console.print(Text(f"{mark['name']}: {value}"))
    for reason in verdict.reasons[1:] if verdict.marks else []:
        console.print(Text(reason))


def _show_budgets(console: Console, record: GateRecord) -> None:
    """Where runs to smaller budgets branched off: the loss of every arm along its tokens."""
    points = budget_curve(record)
    if not points:
        return
    title = "\nLoss at several budgets, nats per token; the last decides"
    table = Table(title=title, box=None, title_justify="left")
    for head in ("arm", "size", "tokens", "loss", f"against {record.baseline}"):
        table.add_column(head, justify="right" if head == "tokens" else "left")
    for of in points:
        loss = "diverged" if of.over_seeds is None else quantities.with_ends(of.over_seeds)
        apart = "" if of.against_baseline is None else quantities.with_ends(of.against_baseline, signed=True)
        table.add_row(of.arm, short(of.size), f"{of.tokens:,}", loss, apart)
    console.print(table)


def show_plan(plan: GatePlan, folder: Path, as_json: bool) -> None:
    """Print what will be run, what it costs and what it can resolve."""
    if as_json:
        typer.echo(json.dumps({**json.loads(plan.content()), "folder": str(folder)}))
        return
    console = _console()
    console.print(Text(f"{plan.hypothesis}.", "bold"))
    table = Table(box=None)
    for head in ("stage", "arms", "runs", "tokens a run", "FLOPs", "predicted"):
        table.add_column(head, justify="left" if head in ("stage", "arms") else "right")
    for stage in plan.stages:
        minutes = f"{stage.seconds / 60:.1f} min"
        arms = ", ".join(stage.arms)
        table.add_row(stage.name, arms, str(stage.runs), f"{stage.tokens:,}", f"{stage.flops:.2g}", minutes)
    console.print(table)
    runs = sum(stage.runs for stage in plan.stages)
    console.print(f"{counted(runs, 'run')}, {plan.workers} at a time: {plan.seconds / 60:.0f} min predicted")
    console.print(
        f"tells a gain of {plan.detectable_gain:.3g} ({plan.detectable_nats:.4f} nats per token) in 80% of such gates, "
        f"and no smaller one; spread of one run {plan.noise.nats:.4f} nats, from {plan.noise.source}",
        markup=False,
    )
    for line in plan.unsound:
        console.print(f"{line}: NO-GO, unsound: {plan.unsound[line]}", markup=False)
    console.print(f"plan {plan.digest[:12]}: {folder / 'plan.json'}", soft_wrap=True, markup=False)
