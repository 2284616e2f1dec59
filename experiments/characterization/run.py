"""Document 002's matrix: GPT-1, GPT-2, RWKV-6 and Mamba-2, each with its own initialisation and with BlinkDL's.

    .venv/bin/python experiments/characterization/run.py [--corpus text:PATH] [--size 8M] [--tokens 1M] [--seeds 2]
        [--scale pocket|smoke]

Every arm is trained alike and asked everything of the group `character`; the note's published numbers stand beside
ours, with why they differ. The scale `document` (the default) has the note's 4M parameters and vocabulary of 16,000,
--size 8M its second size; 40 runs of 12M tokens want an accelerator, and --tokens and --seeds make them fewer and
shorter: everything is measured, of models that have learned less. Of what is measured the probes of `information` take
most, up to twenty minutes of one core a run by an estimate from single probes. `pocket` has a sixteenth of them on
bytes, hours on two cores; `smoke` is next to nothing, with the measurements' smaller protocols. It leaves a study
(page, records, figures) in the folder of --out; the same command goes on with it.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.analysis.character.character import Character, character_of
from assay.api import compare, measure
from assay.cli.numbers import parse_count, parse_seeds
from assay.cli.progress import StudyProgress
from assay.cli.show_character import show_character
from assay.errors import RequestError
from assay.records import MeasuredRun, StudyRecord
from assay.records.study import Arm
from assay.report.quantities import FORMS, bytes_, ends

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
    Row("where it has none", "state", "no_half_life"),
    Row("fullness of the state", "state", "fullness"),
    Row("state: documents over parts", "state", "variety"),
    Row("attention looks back, tokens", "state", "attention_distance"),
    Row("nats without any mixer", "contribution", "mixer"),
    Row("nats without any MLP", "contribution", "mlp"),
    Row("context used, tokens", "context", "effective"),
    Row("worse from a context of", "context", "worse"),
    Row("bits read of the next token", "information", "next"),
    Row("bits read of 4 before, in the state", "information", "in_state"),
    Row("gradients", "gradients", "verdict"),
    Row("first block's over last's", "gradients", "first_to_last"),
    Row("gradient noise, tokens", "gradients", "noise_scale"),
    Row("loss spikes", "dynamics", "spikes"),
    Row("output", "output_health", "verdict"),
    Row("S0 to G4", "document_checks", "checks"),
)

PUBLISHED = {
    "gpt1": {
        "test nats per token": "6.77, of the text trained on",
        "growth with the embedding": "782x",
        "growth, block to block": "16.7x",
        "model": "AMPLIFIER",
        "raw layer": "AMPLIFIER",
        "output": "entropy 70% of ln V",
    },
    "gpt2": {"test nats per token": "1.008 times the note's hybrid"},
    "rwkv6": {
        "test nats per token": "7.9 (35 before BlinkDL's init)",
        "growth with the embedding": "5.4x (000: 5.5x)",
        "model": "AMPLIFIER",
        "raw layer": "AMPLIFIER",
        "output": "1.97 nats (000: 95% of ln V)",
    },
    "mamba2": {
        "test nats per token": "6.75, of the text trained on",
        "growth with the embedding": "2.0x",
        "model": "AMPLIFIER",
        "raw mixer gain": "0.005x",
        "raw layer": "DAMPER",
        "output": "entropy 72.1% of ln V",
    },
}
"""Of documents 000 and 002: architecture -> row of the table -> what they say, after 50 steps."""
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


def settings(
    scale: str, corpus: str, size: int | None = None, tokens: int | None = None, seeds: Sequence[int] = ()
) -> dict[str, Any]:
    """The study: sizes are of all parameters, with the tables as heads, as the note counts them.

    `size`, `tokens` of a run and `seeds` take the place of the scale's own.
    """
    of = SCALES[scale]
    return {
        "size": size or of["size"],
        "match": "total" if scale == "document" else "blocks+head",
        "model": {"heads": "tied"} if scale == "document" else {},
        "seeds": list(seeds) or of["seeds"],
        "data": {"corpus": corpus, "tokenizer": of["tokenizer"]},
        "training": {**of["training"], **({} if tokens is None else {"tokens": tokens})},
        "evaluation": of["evaluation"],
        "measurements": ["likelihood", "recall", "speed", "dynamics" if scale == "smoke" else "character"],
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
    memory = {"peak memory": bytes_(arm.peak_memory_bytes), "state": bytes_(arm.state_bytes)}
    return {**scores(arm), **memory, **{row.called: cell(arm, row) for row in ROWS}}


def cell(arm: Arm, row: Row) -> str:
    """The number of an arm over its seeds, with its interval or range; a dash where there is none."""
    for column in arm.columns:
        if (column.measurement, column.key) == (row.measurement, row.key):
            if column.text is not None:
                return column.text
            if column.value is None:
                break
            between = ends(column)
            return FORMS[column.format](column.value) + (f" ({between})" if between else "")
    return "-"


def told(study: StudyRecord, folder: Path) -> dict[str, Character]:
    """Initialisation -> what its arms are like inside: two halves of one model would share theirs."""
    chosen = {(arm.label, seed) for arm in study.arms for seed in arm.seeds}
    runs = [MeasuredRun.read(path.parent) for path in sorted(folder.glob("runs/*/record.json"))]
    found = {}
    for init in INITIALISATIONS:
        of = [run for run in runs if run.record.label.endswith(f"-{init}")]
        one = character_of([run for run in of if (run.record.label, run.record.seed) in chosen], init)
        if one is not None:
            found[init] = one
    return found


def show(study: StudyRecord, characters: Mapping[str, Character]) -> None:
    """A table for each initialisation, ours beside the published numbers, why they differ, and the arms in words."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140)
    columns = {arm.label: table_of(arm) for arm in study.arms}
    for init in INITIALISATIONS:
        of = [f"{name}-{init}" for name in ARCHITECTURES if f"{name}-{init}" in columns]
        if of:
            table = Table("", *of, title=f"Initialisation: {init}", box=None, title_justify="left")
            for called in columns[of[0]]:
                table.add_row(called, *(columns[label][called] for label in of))
            console.print(table)
    console.print(beside(columns))
    console.print("Why they differ")
    for line in WHY:
        console.print(f"  {line}")
    for init, character in characters.items():
        console.rule(f"Initialisation: {init}", align="left")
        show_character(character._replace(heading=""), console)


def beside(columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Each published number beside ours, with each initialisation."""
    inits = [init for init in INITIALISATIONS if any(label.endswith(f"-{init}") for label in columns)]
    heads = [f"ours, {init}" for init in inits]
    table = Table("", "", "published", *heads, title="Ours beside documents 000 and 002", box=None)
    table.title_justify = "left"
    for name, published in PUBLISHED.items():
        for at, (called, text) in enumerate(published.items()):
            ours = [columns.get(f"{name}-{init}", {}).get(called, "-") for init in inits]
            table.add_row("" if at else name, called, text, *ours)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="document")
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--size", help="another size, as 8M, the note's second")
    parser.add_argument("--tokens", help="tokens of each run, as 1M, in place of the scale's")
    parser.add_argument("--seeds", help="as in `assay compare --seeds`, in place of the scale's")
    parser.add_argument("--init", choices=[*INITIALISATIONS, "both"], default="both")
    parser.add_argument("--out", type=Path, help="folder of the study")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    folder = options.out or Path("runs") / f"characterization-{options.scale}"
    try:
        size = None if options.size is None else parse_count("--size", options.size)
        tokens = None if options.tokens is None else parse_count("--tokens", options.tokens)
        seeds = [] if options.seeds is None else parse_seeds("--seeds", options.seeds)
        asked = settings(options.scale, options.corpus, size, tokens, seeds)
        chosen = INITIALISATIONS if options.init == "both" else (options.init,)
        with StudyProgress(asked["training"]["batch_tokens"]) as progress:
            study = compare(arms(chosen), folder, progress, **asked)
        if options.scale == "smoke":  # the rest by the smaller protocols
            measure(folder, only=["character"], quick=True)
            study = StudyRecord.read(folder / "study.json")
    except RequestError as error:
        print(f"characterization: {error}", file=sys.stderr)
        return 2
    characters = told(study, folder)
    show(study, characters)
    print(f"report: {folder / str(study.report)}")
    if options.json:
        table = {arm.label: table_of(arm) for arm in study.arms}
        said = {init: of.values() for init, of in characters.items()}
        print(json.dumps({"arms": table, "characters": said, "published": PUBLISHED, "why": WHY}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
