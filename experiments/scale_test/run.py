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


def orders(study: StudyRecord) -> dict[int, list[str]]:
    """Size -> arms from the lowest mean loss to the highest, those that are ranked."""
    found: dict[int, list[tuple[int, str]]] = {}
    for arm in study.arms:
        if arm.rank is not None and arm.size is not None:
            found.setdefault(arm.size, []).append((arm.rank, arm.group))
    return {size: [group for _, group in sorted(of)] for size, of in found.items()}


def show(study: StudyRecord) -> None:
    """The losses side by side, and which pairs are resolved at both sizes in which direction."""
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
    console = Console()
    console.print(table)
    for pair in study.pairs:
        console.print(pair.sentence, highlight=False)
    of = list(orders(study).values())
    if len(of) == 2:
        console.print("The order is the same at both sizes." if of[0] == of[1] else f"The order differs: {of}.")


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
    if options.json:
        print(json.dumps(json.loads(study.content())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
