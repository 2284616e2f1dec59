"""Document 002's scale test: do RWKV-6, Mamba-2, GPT-1 and GPT-2 keep their order from 4M to 8M parameters?

    .venv/bin/python experiments/scale_test/run.py [--scale smoke|pocket|document] --corpus text:PATH

Every size is compared by itself, with intervals over seeds; the document left it open. `document` has its sizes, and
`pocket` sixteenths of them. It leaves a study (page, records) in the folder of --out.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.analysis.wording import short
from assay.api import compare
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.records import StudyRecord

ARMS = ["gpt1", "gpt2", "rwkv6", "mamba2"]
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"sizes": [30_000, 60_000], "seeds": [0, 1], "tokens": 8_192, "tokenizer": "bytes"},
    "pocket": {"sizes": [250_000, 500_000], "seeds": [0, 1, 2], "tokens": 2_000_000, "tokenizer": "bytes"},
    "document": {"sizes": [4_000_000, 8_000_000], "seeds": [0, 1, 2, 3, 4], "tokens": 80_000_000,
                 "tokenizer": "bpe:16000"},
}  # fmt: skip


def kept(study: StudyRecord) -> dict[str, list[str]]:
    """Every pair of arms under what became of its order from the smaller size to the larger.

    `kept` and `reversed` where it is resolved at both sizes, else `open`.
    """
    group = {arm.label: arm.group for arm in study.arms}
    size = {arm.label: arm.size for arm in study.arms}
    ahead: dict[frozenset[str], dict[int | None, str | None]] = {}
    for pair in study.pairs:
        a, b = group[pair.a], group[pair.b]
        better = None if not pair.resolved else a if pair.difference < 0 else b
        ahead.setdefault(frozenset((a, b)), {})[size[pair.a]] = better
    found: dict[str, list[str]] = {"kept": [], "reversed": [], "open": []}
    for pair_of, by_size in ahead.items():
        winners = list(by_size.values())
        name = " and ".join(sorted(pair_of))
        if len(winners) < 2 or None in winners:
            found["open"].append(name)
        else:
            found["kept" if len(set(winners)) == 1 else "reversed"].append(name)
    return found


def show(study: StudyRecord) -> None:
    """The losses side by side, which pairs keep their order, the pairs that are resolved, and why others cannot be."""
    table = Table(title="Test nats per token, mean over seeds", box=None, title_justify="left")
    sizes = sorted({arm.size for arm in study.arms if arm.size is not None})
    for head in ("arm", *map(short, sizes)):
        table.add_column(head, justify="left" if head == "arm" else "right")
    for group in ARMS:
        cells = []
        for size in sizes:
            of = [arm for arm in study.arms if arm.group == group and arm.size == size]
            cells.append(f"{of[0].scores.nats_per_token.mean:.4f}" if of and of[0].scores else "-")
        table.add_row(group, *cells)
    console = Console(highlight=False)
    console.print(table)
    for line in said(kept(study)):
        console.print(line)
    for line in (pair.sentence for pair in study.pairs if pair.resolved):
        console.print(line)
    for line in study.headline:
        if line.startswith("Not ranked"):
            console.print(line)


def said(of: dict[str, list[str]]) -> list[str]:
    """What became of the order, in words."""
    names = {what: f" ({', '.join(pairs)})" if pairs else "" for what, pairs in of.items()}
    total = sum(map(len, of.values()))
    if not total:
        return ["No pair could be compared at both sizes."]
    return [
        f"Of {total} pairs {len(of['kept'])} are resolved at both sizes in the same order{names['kept']}, "
        f"{len(of['reversed'])} in opposite order{names['reversed']}, and {len(of['open'])} are not resolved at one or "
        f"both{names['open']}: of these it is not told whether they keep their order."
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--corpus", default="stdlib")
    parser.add_argument("--out", type=Path, help="folder of the study")
    parser.add_argument("--json", action="store_true", help="the record as one JSON object in the last line")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    folder = options.out or Path("runs") / f"scale-test-{options.scale}"
    training = {"tokens": scale["tokens"], "batch_tokens": 1_024}
    try:
        with StudyProgress(training["batch_tokens"]) as progress:
            study = compare(
                ARMS, folder, progress, sizes=scale["sizes"], seeds=scale["seeds"], training=training,
                data={"corpus": options.corpus, "tokenizer": scale["tokenizer"]},
            )  # fmt: skip
    except RequestError as error:
        print(f"scale_test: {error}", file=sys.stderr)
        return 2
    show(study)
    print(f"All pairs and what to read first: {folder / 'report.html'}")
    if options.scale == "smoke":
        print("This scale only shows that it runs: two seeds of eight steps cannot resolve anything.")
    if options.json:
        print(json.dumps(json.loads(study.content())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
