"""Does training in bfloat16 change what is measured? Test loss in bfloat16 less that in float32, paired over seeds.

`.venv/bin/python benchmarks/precision.py [--architectures A,B] [--size 300k] [--tokens 512k] [--seeds 8]
[--corpus stdlib] [--tokenizer bpe:1024] [--batch-tokens 512] [--lr 3e-3] [--out DIR] [--json]`.
Every seed trains the same initial weights on the same batches in both precisions; both are scored in their own
precision. A row is equivalent where the 95% interval of its mean difference (Student's t over seeds) lies inside 0.01
nats per token on either side. A repeated command goes on where it was.
"""

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path

from scipy.stats import t as student
from timing import show

import assay
from assay.cli.numbers import parse_count
from assay.records import MeasuredRun

MARGIN_NATS = 0.01
NAMES = ("gpt1", "transformer++", "rwkv6", "rwkv7", "mamba2", "gated-delta-net")


def test_nats(folder: Path) -> dict[tuple[str, int], float]:
    """{(label, seed): nats per token on the test split} of a finished study."""
    runs = [MeasuredRun.read(path.parent) for path in sorted(folder.glob("runs/*/record.json"))]
    found = {}
    for run in runs:
        likelihood = run.likelihood("test")
        if likelihood is None:
            raise SystemExit(f"{folder}: {run.record.label} of seed {run.record.seed} was not scored")
        found[run.record.label, run.record.seed] = likelihood.nats_per_token
    return found


def row(name: str, differences: list[float]) -> dict[str, object]:
    """The mean difference with its interval, and whether that lies inside the margin."""
    mean, n = statistics.mean(differences), len(differences)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return {
        "architecture": name,
        "bfloat16 - float32 (nats)": f"{mean:+.4f}",
        "95% interval": f"{mean - half:+.4f} ... {mean + half:+.4f}",
        "largest of a seed": f"{max(map(abs, differences)):.4f}",
        "seeds": n,
        "within 0.01": "yes" if max(abs(mean - half), abs(mean + half)) < MARGIN_NATS else "no",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--architectures", default=",".join(NAMES))
    parser.add_argument("--size", default="300k")
    parser.add_argument("--tokens", default="512k")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--corpus", default="stdlib")
    parser.add_argument("--tokenizer", default="bpe:1024")
    parser.add_argument("--batch-tokens", default="512")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, help="where the two studies lie; a temporary folder without it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        nats = {}
        for precision in ("float32", "bfloat16"):
            assay.compare(
                options.architectures.split(","),
                out / precision,
                size=parse_count("--size", options.size),
                seeds=list(range(options.seeds)),
                data={"corpus": options.corpus, "tokenizer": options.tokenizer},
                training={
                    "tokens": parse_count("--tokens", options.tokens),
                    "batch_tokens": parse_count("--batch-tokens", options.batch_tokens),
                    "learning_rate": options.lr,
                },
                execution={"precision": precision, "device": "cpu"},
                measurements=["likelihood"],
            )
            nats[precision] = test_nats(out / precision)
    rows = []
    for name in options.architectures.split(","):
        seeds = range(options.seeds)
        rows.append(row(name, [nats["bfloat16"][name, seed] - nats["float32"][name, seed] for seed in seeds]))
    if options.json:
        print(json.dumps(rows))
    else:
        show(f"{options.size} parameters, {options.tokens} tokens of {options.corpus}", rows, as_json=False)


if __name__ == "__main__":
    main()
