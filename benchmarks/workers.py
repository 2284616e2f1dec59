"""What worker processes gain: one process with all threads against one process per core with one thread each.

Run it with `.venv/bin/python benchmarks/workers.py [--sizes 1M,4M,16M] [--architectures gpt1,rwkv6,mamba2] [--json]`.
It prints tokens per second of the whole machine, medians over rounds in which both ways take turns, and their ratio.
The threshold of small models (`assay.study.machine.SMALL_PARAMETERS`) and the default of `--workers` are based on it.
"""

import argparse
import json
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from assay.cli.numbers import parse_counts
from assay.model.plan import available_cores

ROUNDS = 3
ONE = """
import json, sys
import assay
from assay.evaluation.measurements.speed import Trainee, measure_speeds
from assay.model.plan import ExecutionConfig
from assay.training.config import TrainingConfig
from assay.model.plan import resolve_plan
name, size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
plan = resolve_plan(ExecutionConfig(device="cpu", threads=threads), print)
trainee = Trainee(lambda: assay.build(name, size), TrainingConfig())
print(json.dumps(measure_speeds({name: trainee}, plan, lambda _: None)[name].tokens_per_second))
"""


def tokens_per_second(name: str, size: int, processes: int, threads: int) -> float:
    """Training tokens per second of all processes together."""
    command = [sys.executable, "-c", ONE, name, str(size), str(threads)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [process.communicate()[0] for process in running]
    return sum(float(text.splitlines()[-1]) for text in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="1M,4M,16M", help="parameters of each model")
    parser.add_argument("--architectures", default="gpt1,rwkv6,mamba2")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    cores = available_cores()
    rows = []
    for size in parse_counts("--sizes", options.sizes):
        for name in options.architectures.split(","):
            together, apart = [], []
            for _ in range(ROUNDS):
                together.append(tokens_per_second(name, size, 1, cores))
                apart.append(tokens_per_second(name, size, cores, 1))
            rows.append((name, size, statistics.median(together), statistics.median(apart)))
    if options.json:
        keys = ("architecture", "parameters", "one_process_tokens_per_second", "workers_tokens_per_second")
        print(
            json.dumps({"cores": cores, "rounds": ROUNDS, "rows": [dict(zip(keys, row, strict=True)) for row in rows]})
        )
        return
    table = Table(title=f"tok/s of {cores} cores, medians of {ROUNDS} rounds", title_justify="left", box=None)
    for head in ("architecture", "parameters", f"1 process, {cores} threads", f"{cores} processes, 1 thread", "ratio"):
        table.add_column(head, justify="right")
    for name, size, together, apart in rows:
        table.add_row(name, f"{size:,}", f"{together:,.0f}", f"{apart:,.0f}", f"{apart / together:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
