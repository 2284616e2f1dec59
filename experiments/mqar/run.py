"""Multi-query associative recall (Arora et al. 2023): which architectures solve it, at which rate, after how long.

    .venv/bin/python experiments/mqar/run.py [--scale smoke|pocket|published]

Every architecture has two layers of width 64 and the same grid of learning rates; a run ends where validation is nearly
without loss. The rate and the weights are chosen on validation, and reported on test. `pocket` is the clean form with
256 ids, 4 pairs and 64 tokens; `published` that of the paper, 8192 ids and random filler. Two controls must fail: one
layer of attention, and attention over a window, beyond what two windows reach.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.errors import RequestError
from assay.records import MeasuredRun
from assay.study.asked import StudyConfig
from assay.study.run import train

ARMS = {
    "attention": "transformer++:n_heads=2",
    "rwkv6": "rwkv6:head_dim=32",
    "gated-delta-net": "gated-delta-net:n_heads=2,head_dim=32",
    "delta-net": "delta-net:n_heads=2,head_dim=32",
    "mamba2": "mamba2:d_state=32,head_dim=32",
}
WINDOW = 8
CONTROLS = {"one layer": "transformer++:n_layers=1,n_heads=2", "window": f"sliding-window:n_heads=2,window={WINDOW}"}
MARK = 0.99
"""What every one of ARMS must reach, and no control."""
PAIRS, CONTEXT, BATCH = 4, 64, 128
SOLVED_NATS = 0.01


class Scale(NamedTuple):
    """How long it may take."""

    task: str
    sequences: int
    rates: tuple[float, ...]
    seeds: int


SCALES = {
    "smoke": Scale(f"mqar:pairs={PAIRS}", 4 * BATCH, (3e-3,), 1),
    "pocket": Scale(f"mqar:pairs={PAIRS}", 2_000_000, (1e-3, 3e-3, 1e-2), 1),
    "published": Scale(f"mqar:pairs={PAIRS},vocab=8192,filler=random", 2_000_000, (3e-4, 1e-3, 3e-3, 1e-2), 3),
}


class Outcome(NamedTuple):
    """One run."""

    rate: float
    seed: int
    validation_nats: float
    sequences: int
    seconds: float
    answers: dict[str, Any]


def one_run(arm: str, rate: float, seed: int, scale: Scale, sequences: int, folder: Path) -> Outcome:
    """Train and measure one arm at one rate, or read what is there."""
    config = StudyConfig.parse(
        {
            "kind": "run",
            "arms": [arm],
            "seeds": [seed],
            "size": None,
            "model": {"d_model": 64, **({} if "n_layers" in arm else {"n_layers": 2})},
            "data": {"task": scale.task},
            "training": {
                "tokens": sequences * CONTEXT,
                "batch_tokens": BATCH * CONTEXT,
                "context": CONTEXT,
                "learning_rate": rate,
                "warmup_share": 0.01,
                "schedule": "constant",
                "validation_interval": 100,
                "validation_tokens": 512,
                "stop_at_nats": SOLVED_NATS,
                "weights": "best",
            },
            "evaluation": {"test_tokens": 12_000},
            "measurements": ["likelihood", "answers"],
        }
    )
    started = time.perf_counter()
    run: MeasuredRun = train(config, folder, lambda _: None, [])
    seconds = time.perf_counter() - started
    record = run.record
    lowest = min(point.nats_per_token for point in record.validation_curve)
    answers = run.results["answers"].values
    print(f"{arm} lr={rate:g} seed {seed}: {answers['accuracy']:.3f} after {record.tokens // CONTEXT:,} sequences, "
          f"{seconds:.0f} s", file=sys.stderr)  # fmt: skip
    return Outcome(rate, seed, lowest, record.tokens // CONTEXT, seconds, answers)


def best_of(arm: str, scale: Scale, sequences: int, folder: Path) -> tuple[Outcome, list[Outcome]]:
    """Every rate and seed; the rate whose mean validation is lowest, with the first of its seeds."""
    outcomes = [
        one_run(arm, rate, seed, scale, sequences, folder / f"lr={rate:g}-seed{seed}")
        for rate in scale.rates
        for seed in range(scale.seeds)
    ]

    def mean(rate: float) -> float:
        of = [outcome.validation_nats for outcome in outcomes if outcome.rate == rate]
        return sum(of) / len(of)

    chosen = min(scale.rates, key=mean)
    return next(outcome for outcome in outcomes if outcome.rate == chosen), outcomes


def reach(answers: dict[str, Any], first: int, last: int) -> float | None:
    """Accuracy at distances from `first` to `last` tokens."""
    of = [s for s in answers["stretches"] if s["axis"] == "distance" and s["first"] >= first and s["last"] <= last]
    total = sum(s["answers"] for s in of)
    return sum(s["accuracy"] * s["answers"] for s in of) / total if total else None


def show(results: dict[str, Any]) -> None:
    """One row an arm."""
    table = Table(title="MQAR: two layers of width 64", box=None, title_justify="left")
    for head in ("arm", "rate", "accuracy", "95%", "in training", "solved", "sequences", "seconds"):
        table.add_column(head, justify="left" if head == "arm" else "right")
    for name, of in results.items():
        table.add_row(
            name, f"{of['rate']:g}", f"{of['accuracy']:.3f}", f"{of['low']:.3f} to {of['high']:.3f}",
            f"{of['training_accuracy']:.3f}", f"{of['solved']} of {of['runs']}", f"{of['sequences']:,}",
            f"{of['seconds']:.0f}",
        )  # fmt: skip
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--only", help="arms, separated by commas")
    parser.add_argument("--rates", help="learning rates in place of the scale's, separated by commas")
    parser.add_argument("--sequences", type=int, help="the most sequences of a run, in place of the scale's")
    parser.add_argument("--out", type=Path, default=Path("runs/mqar"), help="folder of the runs")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    if options.rates:
        scale = scale._replace(rates=tuple(map(float, options.rates.split(","))))
    scale = scale._replace(sequences=options.sequences or scale.sequences)
    arms = {**ARMS, **CONTROLS}
    names = options.only.split(",") if options.only else list(arms)
    if unknown := [name for name in names if name not in arms]:
        print(f"mqar: --only {unknown[0]}: one of {', '.join(arms)} would do", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    try:
        for name in names:
            # The controls get what two layers of attention needed.
            budget = (
                results["attention"]["sequences"] if name in CONTROLS and "attention" in results else scale.sequences
            )
            best, outcomes = best_of(arms[name], scale, budget, options.out / options.scale / name.replace(" ", "-"))
            results[name] = {
                "rate": best.rate,
                "sequences": best.sequences,
                "seconds": sum(outcome.seconds for outcome in outcomes),
                "runs": len(outcomes),
                "solved": sum(outcome.answers["accuracy"] >= MARK for outcome in outcomes),
                **{key: best.answers[key] for key in ("accuracy", "low", "high", "training_accuracy", "bag_floor")},
                "near": reach(best.answers, 0, WINDOW - 1),
                "far": reach(best.answers, 2 * (WINDOW - 1) + 1, CONTEXT),
            }
    except RequestError as error:
        print(f"mqar: {error}", file=sys.stderr)
        return 2
    show(results)
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
