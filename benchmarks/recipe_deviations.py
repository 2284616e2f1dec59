"""What each departure from the authors' recipes is worth in nats, at one small setting, as a table in Markdown.

Run it with `.venv/bin/python benchmarks/recipe_deviations.py [--steps 120 --size 300k --seeds 2 --json]`; the numbers
of docs/architectures.md are its output. Each row is an arm of equal size that has the authors' value of one thing (or,
where assay has it too, the other value); the difference is its test nats per byte less those of the arm as it is by
default, a mean over seeds, with that of each seed. The row "another draw" says what chance alone does.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from assay.cli.numbers import parse_count
from assay.study.asked import StudyConfig
from assay.study.resolve import Study, resolve
from assay.study.run import carry_out

DRAW = ("another draw (chance)", "replicate=1")
RWKV_OPTIMIZER = (
    ("betas 0.9, 0.99 and epsilon 1e-18", "beta2=0.99,epsilon=1e-18"),
    ("weight decay 0.001", "weight_decay=0.001"),
    ("ten steps of warm-up", "warmup_share={ten_steps}"),
    ("heads of 64 channels at any width", "head_dim=64"),
    ("*not*: rate of the decay's base not doubled", "layer_rates=false"),
    ("*not*: tied head", "heads=tied"),
)
VARIANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "transformer++": (DRAW, ("one head of twice the width", "n_heads=1"), ("*not*: tied head", "heads=tied")),
    "rwkv6": (DRAW, *RWKV_OPTIMIZER),
    "rwkv7": (DRAW, *RWKV_OPTIMIZER),
    "mamba2": (
        DRAW,
        ("tied head", "heads=published"),
        ("state of 128 at any width", "d_state=128"),
        ("heads of 64 channels at any width", "head_dim=64"),
    ),
    "gated-delta-net": (
        DRAW,
        ("heads twice as wide", "head_dim=64"),
        ("weight decay on everything", "decay_all=true"),
        ("tied head", "heads=tied"),
    ),
}
"""Architecture -> (what is as its authors have it, and here is not by default; how the arm says it)."""


class Row(NamedTuple):
    """One departure of one architecture: its test nats less the default's, for each seed."""

    architecture: str
    what: str
    setting: str
    differences: list[float]

    def __str__(self) -> str:
        each = ", ".join(f"{difference:+.3f}" for difference in self.differences)
        return f"| {self.what} | `{self.setting}` | {statistics.fmean(self.differences):+.3f} | {each} |"


def measured(
    names: list[str], size: int, steps: int, seeds: list[int], corpus: str
) -> Iterator[tuple[str, float, list[Row]]]:
    """(architecture, the default's mean nats, its rows), one architecture after the other."""
    for architecture in names:
        variants = VARIANTS[architecture]
        settings = [setting.format(ten_steps=round(10 / steps, 4)) for _, setting in variants]
        study = resolve(asked(architecture, settings, size, steps, seeds, corpus), lambda _: None)
        nats = scores(study)
        usual = nats.pop(architecture)
        rows = [
            Row(architecture, what, setting, [one - other for one, other in zip(of, usual, strict=True)])
            for (what, _), setting, of in zip(variants, settings, nats.values(), strict=True)
        ]
        yield architecture, statistics.fmean(usual), rows


def asked(architecture: str, settings: list[str], size: int, steps: int, seeds: list[int], corpus: str) -> StudyConfig:
    """The study of one architecture: as it is by default, and with each setting."""
    return StudyConfig.parse(
        {
            "arms": [architecture, *(f"{architecture}:{setting}" for setting in settings)],
            "size": size,
            "seeds": seeds,
            "data": {"corpus": corpus, "tokenizer": "bytes"},
            "training": {"tokens": 512 * steps, "batch_tokens": 512, "context": 128},
            "measurements": [],
            "execution": {"device": "cpu", "threads": 1, "compile": False},
        }
    )


def scores(study: Study) -> dict[str, list[float]]:
    """Label -> test nats per byte, a number for each seed."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arm in study.arms:
            for seed in study.config.seeds:
                run = carry_out(study, arm, seed, Path(folder) / study.run_name(arm, seed))
                nats = float("nan") if run.scores is None else run.scores.nats_per_token  # nan where it diverged
                found.setdefault(arm.label, []).append(nats)
                print(f"{arm.label} seed {seed}: {nats:.4f}", file=sys.stderr)
    return found


def main() -> None:
    """Print the tables, or with --json one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="300k", help="parameters of blocks and head (default: 300k)")
    parser.add_argument("--steps", type=int, default=120, help="of 512 bytes (default: 120)")
    parser.add_argument("--seeds", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--only", default=",".join(VARIANTS), help="architectures (default: all five)")
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare` (default: stdlib)")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of tables")
    given = parser.parse_args()
    size, seeds = parse_count("--size", given.size), list(range(given.seeds))
    tables = list(measured(given.only.split(","), size, given.steps, seeds, given.corpus))
    if given.json:
        print(json.dumps([{"nats": usual, **row._asdict()} for _, usual, rows in tables for row in rows]))
        return
    print(f"{size:,} parameters, {given.steps} steps of 512 bytes of {given.corpus}, {len(seeds)} seeds:\n")
    for architecture, usual, rows in tables:
        print(f"{architecture}: {usual:.3f} nats per byte by default\n")
        print("| in place of the default | setting | nats | by seed |\n|---|---|---|---|")
        print(*rows, "", sep="\n")


if __name__ == "__main__":
    main()
