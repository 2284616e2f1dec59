"""How the time and the memory of a training step grow with context, width and batch, for every architecture.

`.venv/bin/python benchmarks/growth.py [--axis context|width|batch] [--architectures A,B] [--precision bfloat16]
[--threads N] [--json]`. Context: 256 to 8,192 tokens, one sequence, 1M parameters. Width: 1M to 16M parameters, 4 x 256
tokens. Batch: 1 to 16 sequences of 256 tokens, 1M parameters. Every cell is a process of its own: the median of three
steps after one, and the highest resident memory, over what it had before its first step and in all. Processor time, of
all threads together, is what other load on the machine changes least.
"""

import json
import subprocess
import sys

from timing import options, show

CELLS: dict[str, list[tuple[int, int, int]]] = {
    "context": [(1_000_000, 1, context) for context in (256, 512, 1024, 2048, 4096, 8192)],
    "width": [(size, 4, 256) for size in (1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)],
    "batch": [(1_000_000, rows, 256) for rows in (1, 2, 4, 8, 16)],
}
"""For each axis (parameters, sequences, context)."""

NAMES = "gpt1,gpt2,transformer++,sliding-window,rwkv6,rwkv7,mamba2,delta-net,gated-delta-net,hybrid,groundthink,twin"

CELL = """
import json, statistics, sys, time
import numpy as np
import torch
from assay.data.batches import Batch
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.plan import ExecutionConfig, resolve_plan
from assay.model.sizing import solve
from assay.training.config import TrainingConfig
from assay.training.memory import PeakMemory
from assay.training.native import prepare_ops
from assay.training.objective import Objective
from assay.training.optim import build_optimizer
from assay.training.step import micro_batches, take_step
name, size, rows, context, precision, threads = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5], int(sys.argv[6])
architecture = ARCHITECTURES.get(name)
positions = {"max_positions": context} if "max_positions" in architecture.config.model_fields else {}
fixed = {"vocab_size": 1024, **positions}
plan = resolve_plan(ExecutionConfig(device="cpu", precision=precision, threads=threads, compile=False), print)
model = plan.apply(build_model(architecture, solve(architecture, size, "blocks+head", fixed), 0))
training = TrainingConfig(tokens=rows * context * 100, batch_tokens=rows * context, context=context)
prepare_ops(model, plan)
objective, optimizer = Objective(model, plan), build_optimizer(model, training)
ids = np.random.default_rng(0).integers(0, 1024, (rows, context + 1))
batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy())
peak = PeakMemory("cpu")
before, seconds, worked = peak.bytes(), [], []
for step in range(4):
    started, before_work = time.perf_counter(), time.process_time()
    take_step(objective, optimizer, micro_batches(batch, training, "cpu", 0, step), batch.scored, training, step)
    seconds.append(time.perf_counter() - started)
    worked.append(time.process_time() - before_work)
after = peak.bytes()
grown = None if before is None or after is None else after - before
medians = {"seconds": statistics.median(seconds[1:]), "processor": statistics.median(worked[1:])}
print(json.dumps({**medians, "bytes": grown, "peak": after}))
"""


def cell(name: str, size: int, rows: int, context: int, precision: str, threads: int) -> dict[str, float | None]:
    """Seconds of a step, of the clock and of processors, and bytes; what the process died of where it could not."""
    command = [sys.executable, "-c", CELL, name, *map(str, (size, rows, context)), precision, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {size} {rows} x {context}: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--axis", choices=sorted(CELLS), default="context")
    parser.add_argument("--architectures", default=NAMES)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    given = parser.parse_args()
    rows = []
    for name in given.architectures.split(","):
        for size, sequences, context in CELLS[given.axis]:
            found = cell(name, size, sequences, context, given.precision, given.threads)
            tokens, taken = sequences * context, found["bytes"]
            rows.append(
                {
                    "architecture": name,
                    "parameters": size,
                    "batch": f"{sequences} x {context}",
                    "tokens/s": tokens / (found["seconds"] or 1),
                    "tokens/s of processor time": tokens / (found["processor"] or 1),
                    "MB": None if taken is None else taken / 1e6,
                    "MB of the process": None if found["peak"] is None else found["peak"] / 1e6,
                    "kB a token": None if taken is None else taken / tokens / 1e3,
                }
            )
    show(f"growth with {given.axis}, {given.precision}, {given.threads} threads", rows, given.json)


if __name__ == "__main__":
    main()
