"""Orderings that the literature agrees on, asked of assay at a small scale: does it find them, and how surely?

    .venv/bin/python experiments/known/run.py [--scale smoke|pocket] [--only NAME,...] [--corpus C] [--json]

Every claim is a study of two arms, through `assay.compare`: equal sizes, the same batches, paired seeds. A claim is
agreed with or contradicted where the study resolves the pair, else not resolved. The level is that of each claim by
itself. `smoke` only shows that it runs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.api import compare
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.records import MeasuredRun, StudyRecord

CONTEXT, RECALL_CONTEXT, RECALL_BATCH = 256, 64, 128


class Claim(NamedTuple):
    """`better` is said to come before `worse`; arms as on the command line, under these labels."""

    better: str
    worse: str
    source: str
    arms: tuple[str, str]
    recall: bool = False
    """Whether it is about answers to MQAR, and not about text."""


CLAIMS = {
    "recipe": Claim(
        "transformer++", "gpt1", "Gu and Dao 2023, Mamba, figure 4: the modern recipe scales better",
        ("transformer++", "gpt1"),
    ),
    "gate": Claim(
        "gated-delta-net", "delta-net", "Yang et al. 2024, Gated Delta Networks, table 3",
        ("gated-delta-net", "delta-net"),
    ),
    "hybrid": Claim(
        "hybrid", "pure", "Yang et al. 2024, table 3 (hybrids); Waleffe et al. 2024 of Mamba-2",
        ("hybrid=hybrid:pattern=GGGA", "pure=gated-delta-net:n_layers=4"),
    ),
    "recall": Claim(
        "attention", "window", "Arora et al. 2023, Zoology: a window cannot recall from beyond it",
        ("attention=transformer++:n_heads=2", "window=sliding-window:n_heads=2,window=8"), recall=True,
    ),
}  # fmt: skip


class Scale(NamedTuple):
    """How much is trained."""

    seeds: int
    size: int
    tokens: int
    recall_sequences: int


SCALES = {
    "smoke": Scale(2, 30_000, 8 * 512, 8 * RECALL_BATCH),
    "pocket": Scale(5, 250_000, 655_360, 256_000),
}


def settings(claim: Claim, scale: Scale, corpus: str) -> dict[str, Any]:
    """The study of a claim, as keys of config.yaml."""
    if claim.recall:
        return {
            "seeds": list(range(min(scale.seeds, 3))),
            "size": None,
            "model": {"d_model": 64, "n_layers": 2},
            "data": {"task": "mqar:pairs=4"},
            "training": {
                "tokens": scale.recall_sequences * RECALL_CONTEXT,
                "batch_tokens": RECALL_BATCH * RECALL_CONTEXT,
                "context": RECALL_CONTEXT,
                "learning_rate": 3e-3,
                "schedule": "constant",
                "warmup_share": 0.01,
                "weights": "best",
            },
            "evaluation": {"test_tokens": 12_000},
            "measurements": ["likelihood", "answers"],
        }
    return {
        "seeds": list(range(scale.seeds)),
        "size": scale.size,
        "data": {"corpus": corpus, "tokenizer": "bytes"},
        "training": {"tokens": scale.tokens, "batch_tokens": 512, "context": CONTEXT},
        "measurements": ["likelihood"],
    }


def outcome(claim: Claim, study: StudyRecord, folder: Path) -> dict[str, Any]:
    """What the study finds of the claim: the difference better - worse, below zero where the claim holds."""
    found: dict[str, Any] = {
        "claim": f"{claim.better} before {claim.worse}",
        "source": claim.source,
        "nats": {arm.label: arm.scores.nats_per_token.mean for arm in study.arms if arm.scores is not None},
        "report": str(folder / str(study.report)),
    }
    if claim.recall:
        found["accuracy"] = accuracies(folder)
    pair = next((pair for pair in study.pairs if {pair.a, pair.b} == {claim.better, claim.worse}), None)
    if pair is None:
        return {**found, "finding": f"not ranked: {study.not_ranked_because or 'a run diverged or an arm is unsound'}"}
    sign = 1 if pair.a == claim.better else -1
    ends = sorted(sign * end for end in (pair.low, pair.high) if end is not None)
    difference = sign * pair.difference
    finding = "not resolved" if not pair.resolved else "agrees" if difference < 0 else "contradicts"
    return {**found, "difference": difference, "interval": ends, "seeds": pair.n_seeds, "finding": finding}


def accuracies(folder: Path) -> dict[str, list[float]]:
    """Label -> the share of right answers of each seed."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("runs/*/record.json")):
        run = MeasuredRun.read(path.parent)
        if "answers" in run.results:
            found.setdefault(run.record.label, []).append(run.results["answers"].values["accuracy"])
    return found


def show(results: dict[str, dict[str, Any]]) -> None:
    """One row a claim."""
    table = Table(title="Known orderings, nats per token better - worse", box=None, title_justify="left")
    for head in ("claim", "difference", "95%", "seeds", "finding", "source"):
        table.add_column(head)
    for of in results.values():
        ends = of.get("interval") or []
        table.add_row(
            of["claim"], f"{of['difference']:+.3f}" if "difference" in of else "",
            f"{ends[0]:+.3f} to {ends[1]:+.3f}" if len(ends) == 2 else "", str(of.get("seeds", "")), of["finding"],
            of["source"],
        )  # fmt: skip
    console = Console(width=150, highlight=False)
    console.print(table)
    console.print(
        "Below zero the first of the two predicts better, as the literature says. It agrees or contradicts where the "
        "interval of the claim by itself leaves out zero."
    )
    for of in results.values():
        for label, shares in of.get("accuracy", {}).items():
            print(f"{label}: right answers {', '.join(f'{share:.1%}' for share in shares)}, a seed each")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--only", help=f"claims, separated by commas: {', '.join(CLAIMS)}")
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--tokens", type=int, help="tokens of text that a run reads, in place of the scale's")
    parser.add_argument("--out", type=Path, default=Path("runs/known"), help="folder of the studies")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(CLAIMS)
    if unknown := [name for name in names if name not in CLAIMS]:
        print(f"known: --only {unknown[0]}: one of {', '.join(CLAIMS)} would do", file=sys.stderr)
        return 2
    scale = SCALES[options.scale]
    scale = scale._replace(tokens=options.tokens or scale.tokens)
    results: dict[str, dict[str, Any]] = {}
    try:
        for name in names:
            claim, folder = CLAIMS[name], options.out / options.scale / name
            asked = settings(claim, scale, options.corpus)
            with StudyProgress(asked["training"]["batch_tokens"]) as progress:
                results[name] = outcome(claim, compare(list(claim.arms), folder, progress, **asked), folder)
    except RequestError as error:
        print(f"known: {error}", file=sys.stderr)
        return 2
    show(results)
    if options.scale == "smoke":
        print("This scale only shows that it runs: two seeds of eight steps cannot resolve anything.")
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
