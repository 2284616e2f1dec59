"""Document 002's matrix: GPT-1, GPT-2, RWKV-6 and Mamba-2, each with its own initialisation and with BlinkDL's.

    .venv/bin/python experiments/characterization/run.py [--scale smoke|pocket|document] [--size 8M] --corpus text:PATH

Every arm is trained alike and asked everything of the group `character`; the note's published numbers stand beside
ours, with why they differ. `document` has the note's sizes and vocabulary, `pocket` a sixteenth of them on bytes,
`smoke` next to nothing. It leaves a study (page, records, figures) in the folder of --out; the same command goes on
with it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.analysis.character.words import in_words
from assay.api import compare
from assay.cli.numbers import parse_count
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.records import MeasuredRun, StudyRecord
from assay.records.study import Arm

ARCHITECTURES = ("gpt1", "gpt2", "rwkv6", "mamba2")
INITIALISATIONS = ("own", "blinkdl")
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"size": 30_000, "seeds": [0, 1], "tokenizer": "bytes",
              "training": {"tokens": 8_192, "batch_tokens": 512, "context": 128, "validation_tokens": 1_024},
              "evaluation": {"test_tokens": 2_048, "signal_windows": 4}},
    "pocket": {"size": 250_000, "seeds": [0, 1, 2], "tokenizer": "bytes",
               "training": {"tokens": 1_000_000, "batch_tokens": 1_024, "context": 256}, "evaluation": {}},
    "document": {"size": 4_000_000, "seeds": [0, 1, 2, 3, 4], "tokenizer": "bpe:16000",
                 "training": {"tokens": 12_000_000, "batch_tokens": 4_096, "context": 512, "validation_tokens": 16_384},
                 "evaluation": {"test_tokens": 131_072}},
}  # fmt: skip


class Row(NamedTuple):
    """A number of the table: a column of a measurement, and how it is called here."""

    called: str
    measurement: str
    key: str


ROWS = (
    Row("tokens per second", "speed", "speed"),
    Row("growth, block to block", "signals", "growth"),
    Row("growth with the embedding", "signals", "growth_with_embedding"),
    Row("model", "signals", "verdict"),
    Row("raw mixer gain", "signals", "mixer_gain"),
    Row("raw layer", "signals", "gain_verdict"),
    Row("half-life of the state, tokens", "state", "half_life"),
    Row("its channels", "state", "half_life_range"),
    Row("fullness of the state", "state", "fullness"),
    Row("state: documents over parts", "state", "variety"),
    Row("attention looks back, tokens", "state", "attention_distance"),
    Row("gradients", "gradients", "verdict"),
    Row("first block's over last's", "gradients", "first_to_last"),
    Row("gradient noise, tokens", "gradients", "noise_scale"),
    Row("loss spikes", "dynamics", "spikes"),
    Row("output", "output_health", "verdict"),
    Row("S0 to G4", "document_checks", "checks"),
)

PUBLISHED = {
    "gpt1": "AMPLIFIER 782x with the embedding (16.7x without it), attention an amplifier; loss 9.68 to 6.77 in 50 "
    "steps; entropy 70% of ln V",
    "gpt2": "loss ratio 1.008 to the note's own hybrid; no characterization",
    "rwkv6": "AMPLIFIER 5.4x (5.5x in document 000), raw layer an amplifier; loss 125 to 35 before that "
    "initialisation, 7.9 after; entropy 1.97 nats (document 000: 95% of ln V); softmax saturating",
    "mamba2": "AMPLIFIER 2.0x, raw layer a damper (0.005x); loss 6.75 in 50 steps; entropy 72% of ln V",
}
"""Of documents 000 and 002."""
WHY = (
    "What the notes call variance is a standard deviation, and 46.9x of GPT-1's 782x is the step from an embedding "
    "drawn at 1e-4 to block 0; growth here stands with the embedding and without.",
    "Their models were not treated alike: GPT-1 after BlinkDL's initialisation, Mamba-2 before it. Here each "
    "initialisation is an arm of its own, for all four.",
    "Their RWKV-6 has a vector state and a constant decay, nearer to RWKV-4, a GELU MLP and a prototype of the "
    "recurrence; here it is as published.",
    "They trained 50 steps of one window of 64 tokens and looked at the text that was trained on; here all arms "
    "read the same tokens, and held-out text is scored.",
    "They give one seed and no interval; a raw layer was read on random input by itself, here on what it reads "
    "in the model.",
)


def arms(initialisations: Sequence[str]) -> list[str]:
    """Each architecture with each initialisation, as on a command line."""
    return [f"{name}-{init}={name}:init={init}" for name in ARCHITECTURES for init in initialisations]


def settings(scale: str, corpus: str, size: int | None) -> dict[str, Any]:
    """The study: sizes are of all parameters, with the tables as heads, as the note counts them."""
    of = SCALES[scale]
    return {
        "size": size or of["size"],
        "match": "total" if scale == "document" else "blocks+head",
        "model": {"heads": "tied"} if scale == "document" else {},
        "seeds": of["seeds"],
        "data": {"corpus": corpus, "tokenizer": of["tokenizer"]},
        "training": of["training"],
        "evaluation": of["evaluation"],
        "measurements": ["likelihood", "recall", "speed", "character"],
    }


def scores(arm: Arm) -> dict[str, str]:
    """Of the held-out text, with Student's interval over seeds."""
    if arm.scores is None:
        return {"test nats per token": "-", "test perplexity": "-"}
    nats, perplexity = arm.scores.nats_per_token, arm.scores.perplexity
    return {
        f"test {called}": f"{of.mean:.4g}" + ("" if of.low is None else f" [{of.low:.4g}, {of.high:.4g}]")
        for called, of in (("nats per token", nats), ("perplexity", perplexity))
    }


def table_of(arm: Arm) -> dict[str, str]:
    """Every row of the arm's column."""
    return {**scores(arm), **{row.called: cell(arm, row) for row in ROWS}}


def cell(arm: Arm, row: Row) -> str:
    """The number of an arm over its seeds, with its interval or range; a dash where there is none."""
    for column in arm.columns:
        if (column.measurement, column.key) == (row.measurement, row.key):
            if column.text is not None:
                return column.text
            if column.value is None:
                break
            ends = "" if column.low is None or column.high is None else f" [{column.low:.3g}, {column.high:.3g}]"
            return f"{column.value:.4g}{ends}"
    return "-"


def words(folder: Path) -> dict[str, list[str]]:
    """Label -> what its numbers say."""
    found: dict[str, dict[int, Any]] = {}
    for path in sorted(folder.glob("runs/*/record.json")):
        run = MeasuredRun.read(path.parent)
        found.setdefault(run.record.label, {})[run.record.seed] = run.results
    return in_words(found)


def show(study: StudyRecord, said: dict[str, list[str]]) -> None:
    """A table for each initialisation, the published numbers, why they differ, and the arms in words."""
    console = Console(highlight=False)
    for init in INITIALISATIONS:
        of = [arm for arm in study.arms if arm.label.endswith(f"-{init}")]
        if of:
            table = Table(
                "", *(arm.label for arm in of), title=f"Initialisation: {init}", box=None, title_justify="left"
            )
            columns = [table_of(arm) for arm in of]
            for called in columns[0]:
                table.add_row(called, *(column[called] for column in columns))
            console.print(table)
    console.print("\nPublished (documents 000 and 002)")
    for name, text in PUBLISHED.items():
        console.print(f"  {name}: {text}.")
    console.print("\nWhy they differ from ours")
    for line in WHY:
        console.print(f"  {line}")
    for label, lines in said.items():
        console.print(f"\n{label}")
        for line in lines:
            console.print(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--size", help="another size, as 8M, the note's second")
    parser.add_argument("--init", choices=[*INITIALISATIONS, "both"], default="both")
    parser.add_argument("--out", type=Path, help="folder of the study")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    folder = options.out or Path("runs") / f"characterization-{options.scale}"
    try:
        size = None if options.size is None else parse_count("--size", options.size)
        asked = settings(options.scale, options.corpus, size)
        chosen = INITIALISATIONS if options.init == "both" else (options.init,)
        with StudyProgress(asked["training"]["batch_tokens"]) as progress:
            study = compare(arms(chosen), folder, progress, **asked)
    except RequestError as error:
        print(f"characterization: {error}", file=sys.stderr)
        return 2
    said = words(folder)
    show(study, said)
    print(f"report: {folder / str(study.report)}")
    if options.json:
        table = {arm.label: table_of(arm) for arm in study.arms}
        print(json.dumps({"arms": table, "words": said, "published": PUBLISHED, "why": WHY}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
