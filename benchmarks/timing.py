"""What the benchmarks of speed share: calls that take turns, medians, and the machine's ceiling of matrix products."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

CEILING_WIDTH = 1024
"""Square matrices of this width are multiplied for the ceiling: large enough for full speed, small for the caches."""


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def alternate(calls: Mapping[str, Callable[[], object]], rounds: int, warm_ups: int = 2) -> dict[str, list[float]]:
    """{name: seconds of each round}; in every round each call has its turn, so that other load hits all alike."""
    for call in calls.values():
        for _ in range(warm_ups):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call))
    return seconds


def ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median over rounds of how many times as long the first took as the second."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def ceilings(rounds: int = 20) -> dict[str, float]:
    """FLOPs per second of products of square matrices with torch's threads, by precision; medians."""
    calls = {}
    for dtype in (torch.float32, torch.bfloat16):
        one = torch.randn(CEILING_WIDTH, CEILING_WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
        calls[str(dtype).removeprefix("torch.")] = lambda one=one: one @ one
    return {name: 2 * CEILING_WIDTH**3 / statistics.median(times) for name, times in alternate(calls, rounds).items()}


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark of speed takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


def show(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool, **more: Any) -> None:
    """Print rows with equal keys as a table, or with `more` as one JSON object."""
    if as_json:
        print(json.dumps({"title": title, **more, "rows": list(rows)}))
        return
    table = Table(title=title, title_justify="left", box=None)
    for index, key in enumerate(rows[0]):
        table.add_column(key, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console(width=160).print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)
