"""Document 001's scaling ladder with its true sizes, its go/no-go rule, and what the same runs say with intervals.

    .venv/bin/python experiments/v7_scaling/run.py [--scale smoke|pocket|document] --corpus text:PATH

The document calls its models 1M to 500M by a formula that leaves out the tables; counted, its first three have 6.6,
14.4 and 37.7 million parameters. Its exponent was read from losses of a model that saw the future. Here the causal
hybrid (`groundthink`) and GPT-2 climb one ladder of matched sizes, and the document's rule (go above 0.3, no-go below
0.1) stands beside the compute-equivalent gain.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.analysis.gate.evidence import gate_evidence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.rule import read_rule
from assay.api import build, gate
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.model.accounting import count_parameters
from assay.records.gate import GatePlan

VOCABULARY = 50_257
NAMED: dict[str, dict[str, Any]] = {
    "1M": {"d_model": 128, "n_heads": 2, "head_dim": 64, "pattern": "G"},
    "10M": {"d_model": 256, "n_heads": 4, "head_dim": 64, "pattern": "GG"},
    "125M": {"d_model": 512, "n_heads": 8, "head_dim": 64, "pattern": "GGGG"},
}
"""The models of the document's table of scaling results, by the names it gives them."""
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"candidates": ["groundthink=groundthink:pattern=GS"], "sizes": [24_000, 48_000], "seeds": 2,
              "tokens_per_parameter": 0.2, "rates": [1e-3, 3e-3, 1e-2], "workers": 1,
              "training": {"batch_tokens": 512, "context": 64, "validation_tokens": 512},
              "evaluation": {"test_tokens": 1_024, "texts": ["manual"]}},
    "pocket": {"sizes": [64_000, 128_000, 256_000], "seeds": 3, "tokens_per_parameter": 20.0},
    "document": {"sizes": [2_500_000, 5_000_000, 10_000_000, 20_000_000], "seeds": 3, "tokens_per_parameter": 20.0},
}  # fmt: skip


def true_sizes() -> dict[str, int]:
    """The parameters of the models that the document names after their supposed size, at its vocabulary."""
    found = {}
    for name, dimensions in NAMED.items():
        layers = len(str(dimensions["pattern"]))
        model = build("groundthink-v7", vocab_size=VOCABULARY, n_layers=layers, heads="tied", **dimensions)
        found[name] = count_parameters(model).total
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--corpus", default="stdlib")
    parser.add_argument("--out", type=Path, help="folder of the gate")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    folder = options.out or Path("runs") / f"v7-scaling-{options.scale}"
    settings = {"candidates": ["groundthink"], "data": {"corpus": options.corpus}, **SCALES[options.scale]}
    console = Console(highlight=False)
    try:
        with StudyProgress(1_024) as progress:
            ours = gate(against="gpt2", out=folder, listener=progress, **settings)
        plan = GatePlan.read(folder / "plan.json")
        theirs = judge_gate(gate_evidence(folder, plan), read_rule("groundthink-v7"), plan, [], [])
    except RequestError as error:
        print(f"v7_scaling: {error}", file=sys.stderr)
        return 2
    counts = true_sizes()
    table = Table(title="What the document's sizes are", box=None, title_justify="left")
    for head in ("called", f"parameters at {VOCABULARY:,} ids"):
        table.add_column(head)
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    console.print(table)
    exponent = theirs.verdicts[0].metrics.get("scaling_exponent")
    read = "not read, as runs are missing" if exponent is None else f"{exponent:.3f} without an interval"
    console.print(f"By the document's rule (go above 0.3, no-go below 0.1): {theirs.verdict}, exponent {read}.")
    console.print(f"By assay's rule, whose page this is: {ours.verdict}.")
    for line in [*ours.headline, *ours.power_laws]:
        console.print(line)
    console.print(f"Page: {folder / 'gate.html'}")
    if options.scale == "smoke":
        console.print("This scale only shows that it runs: with two seeds of a few steps no verdict means anything.")
    if options.json:
        print(json.dumps({"sizes": counts, "exponent": exponent, "document": theirs.verdict, "verdict": ours.verdict}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
