"""The leak of document 001, the research note on the GroundThink hybrid, in numbers.

The hybrid as it was run, which leaks, and the same ideas made causal are trained alike and scored twice: as reported,
and with each target scored from its prefix alone.

Run it with `.venv/bin/python experiments/leaks/document_001/run.py`. It trains both on the bytes of the standard
library, prints what each reports, what each is worth from prefixes alone, and what the audit says of them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.analysis.under_floors import in_short
from assay.api import compare
from assay.audit import AuditReport, audit
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.evaluation.measurements.honest_likelihood import HonestLikelihood
from assay.records import StudyRecord
from assay.study.subject.fresh import Fresh
from assay.study.subject.lookup import named_models
from assay.study.text_checks import honest_scores

ARMS = ("groundthink-v7", "groundthink")


def protocol(corpus: str, scale: str) -> dict[str, Any]:
    """One of the note's layer patterns, on bytes, narrow and short enough for two cores."""
    full = scale == "full"
    return {
        "size": None,
        "seeds": [0],
        "model": {
            "heads": "tied",
            "pattern": "GSGS",
            "d_model": 64 if full else 16,
            "n_heads": 1,
            "head_dim": 64 if full else 16,
        },
        "data": {"corpus": corpus, "tokenizer": "bytes", "max_bytes": 2_000_000},
        "training": {
            "tokens": 250 * 1024 if full else 512,
            "batch_tokens": 1024 if full else 128,
            "context": 64 if full else 32,
            "learning_rate": 5e-3,
            "validation_tokens": 2048 if full else 128,
        },
        "evaluation": {"test_tokens": 16_384 if full else 512, "signal_windows": 2},
    }


def show(study: StudyRecord, scores: dict[str, HonestLikelihood], audits: dict[str, AuditReport]) -> None:
    """Nats per byte as reported and from prefixes alone, the floors, and what the audit says of each model."""
    table = Table(box=None, title="Nats per byte (perplexity) on test bytes", title_justify="left")
    table.add_column("")
    for column in ("bytes", "reported", "honest", "difference"):
        table.add_column(column, justify="right")
    for name, score in scores.items():
        reported = f"{score.reported_nats_per_token:.3f} ({score.reported_perplexity:.2f})"
        honest = f"{score.honest_nats_per_token:.3f} ({score.honest_perplexity:.2f})"
        difference = f"{score.difference:z.3f}"
        if score.low is not None:
            difference += f" [{score.low:z.3f}, {score.high:z.3f}]"
        table.add_row(name, f"{score.targets:,}", reported, honest, difference)
    for name, floor in study.floors.items():
        everything = f"{scores[ARMS[0]].all_targets:,}"
        table.add_row(in_short(name, floor), everything, f"{floor.nats_per_token:.3f} ({floor.perplexity:.2f})")
    console = Console(highlight=False)
    console.print(table)
    for name, report in audits.items():
        console.print(f"\n{name}: {report.summary()}", markup=False)
        for finding in [each for each in report.findings if each.status == "fail"][:1]:
            console.print(f"{finding.check}: {finding.explanation}", markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--out", type=Path, default=Path("runs/document_001"), help="folder of the study")
    parser.add_argument("--scale", choices=["tiny", "full"], default="full", help="tiny: seconds, and no result")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    settings = protocol(options.corpus, options.scale)
    try:
        with StudyProgress(settings["training"]["batch_tokens"]) as progress:
            study = compare(list(ARMS), options.out, progress, **settings)
            trained = named_models(str(options.out), Fresh())
            items = {item.architecture.name: item for item in trained if item.architecture is not None}
            scores = {name: honest_scores(items[name], progress.message) for name in ARMS}
            longest = 2 * settings["training"]["context"]
            audits = {
                name: audit(items[name].model, special_ids=items[name].special_ids, max_length=longest) for name in ARMS
            }
    except RequestError as error:
        print(f"document_001: {error}", file=sys.stderr)
        return 2
    if options.json:
        results = {name: {**scores[name].model_dump(mode="json"), "audit": audits[name].as_dict()} for name in ARMS}
        floors = {name: floor.model_dump(mode="json") for name, floor in study.floors.items()}
        print(json.dumps({"results": results, "floors": floors, "report": str(options.out / str(study.report))}))
    else:
        show(study, scores, audits)
        print(f"\nreport: {options.out / str(study.report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
