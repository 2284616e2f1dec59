"""The protocol of document 000, a research note that compares GPT-1, RWKV-6 and Mamba-2, as written, over five seeds.

50 steps of one window of 64 tokens, with the initialisation `blinkdl` for all (embedding within +-1e-4, outputs zero).
Run it with `.venv/bin/python experiments/phase0/run.py --corpus text:PATH`. It prints the note's published numbers
beside ours and leaves a study (page, records) in the folder of --out.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.api import compare
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.records import MeasuredRun

PUBLISHED: dict[str, dict[str, float]] = {
    "gpt1": {
        "parameters": 4_370_832,
        "first_nats": 9.68,
        "last_nats": 6.77,
        "growth_with_embedding": 782.0,
        "growth_without_embedding": 16.7061 / 1.0030,
        "max_probability": 0.058,
        "entropy_share": 0.700,
    },
    "rwkv6": {"last_nats": 7.9, "growth_with_embedding": 5.5, "max_probability": 0.08, "entropy_share": 0.95},
    "mamba2": {"last_nats": 6.75, "growth_with_embedding": 2.0, "max_probability": 0.05, "entropy_share": 0.721},
}
"""The note's tables. Its RWKV-6 has a vector state and a constant decay, and its Mamba-2 row was measured before that
initialisation, so that only GPT-1 is comparable.
"""

STEPS, CONTEXT = 50, 64


def protocol(corpus: str, tokenizer: str, smoke: bool) -> dict[str, Any]:
    """The settings of the document, as a study; `smoke` is the same with two seeds."""
    return {
        "size": None,
        "seeds": [0, 1] if smoke else [0, 1, 2, 3, 4],
        "model": {
            "d_model": 144,
            "n_layers": 8,
            "initialisation": "blinkdl",
            "heads": "tied",
            "gpt1": {"n_heads": 4},
            "rwkv6": {"head_dim": 36},
            "mamba2": {"head_dim": 36, "d_state": 64},
        },
        "data": {"corpus": corpus, "tokenizer": tokenizer, "split_by": "position"},
        "training": {
            "tokens": STEPS * CONTEXT,
            "batch_tokens": CONTEXT,
            "context": CONTEXT,
            "order": "sequential",
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warmup_share": 0.0,
            "weight_decay": 0.01,
            "decay_all": True,
            "beta2": 0.999,
            "clip_norm": 1.0,
            "validation_interval": STEPS,
            "validation_tokens": 2_048,
        },
        "evaluation": {"test_tokens": 8_192, "signal_windows": 1},
    }


def summarise(runs: list[MeasuredRun]) -> dict[str, float]:
    """Means over seeds of what the document reports; growth as a median, as a ratio has a heavy tail."""
    losses = [[point.nats_per_token for point in run.record.training_curve] for run in runs]
    signals = [run.results["signals"].values["trained"] for run in runs if "output_health" in run.results]
    outputs = [run.results["output_health"].values for run in runs if "output_health" in run.results]
    return {
        "parameters": runs[0].record.parameters.total,
        "first_nats": statistics.fmean(curve[0] for curve in losses),
        "last_nats": statistics.fmean(curve[-1] for curve in losses),
        "last_ten_nats": statistics.fmean(statistics.fmean(curve[-10:]) for curve in losses),
        "growth_with_embedding": statistics.median(s["growth_with_embedding"] for s in signals),
        "growth_without_embedding": statistics.median(s["growth_without_embedding"] for s in signals),
        "max_probability": statistics.fmean(o["max_probability"] for o in outputs),
        "entropy_share": statistics.fmean(o["entropy_share"] for o in outputs),
        "seeds": len(runs),
    }


def show(results: dict[str, dict[str, float]]) -> None:
    """Print one column per architecture: our number, and in brackets the note's where it gives one."""
    seeds = int(next(iter(results.values()))["seeds"])
    table = Table(title=f"Document 000's protocol over {seeds} seeds (published)", box=None, title_justify="left")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    for key in next(iter(results.values())):
        form = "{:,.0f}".format if key in ("parameters", "seeds") else "{:,.4g}".format
        cells = []
        for name, ours in results.items():
            published = PUBLISHED[name].get(key)
            cells.append(form(ours[key]) + ("" if published is None else f" ({form(published)})"))
        table.add_row(key.replace("_", " "), *cells)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--tokenizer", default="bpe:16000", help="as in `assay compare` (default: the document's)")
    parser.add_argument("--out", type=Path, default=Path("runs/phase0"), help="folder of the study")
    parser.add_argument("--scale", choices=["smoke", "full"], default="full", help="smoke: two seeds instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    try:
        with StudyProgress(CONTEXT) as progress:
            settings = protocol(options.corpus, options.tokenizer, options.scale == "smoke")
            study = compare(list(PUBLISHED), options.out, progress, **settings)
    except RequestError as error:
        print(f"phase0: {error}", file=sys.stderr)
        return 2
    records = [MeasuredRun.read(path.parent) for path in sorted(options.out.glob("runs/*/record.json"))]
    results = {name: summarise([run for run in records if run.record.label == name]) for name in PUBLISHED}
    if options.json:
        print(json.dumps({"results": results, "published": PUBLISHED, "report": str(options.out / str(study.report))}))
    else:
        show(results)
        print(f"report: {options.out / str(study.report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
