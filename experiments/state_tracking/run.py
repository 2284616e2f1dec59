"""State tracking: which architectures follow a state through 40 tokens, and which still do at twice as many.

    .venv/bin/python experiments/state_tracking/run.py [--scale smoke|pocket] [--only TASK,...]

Two layers of width 64 learn from sequences of up to 40 tokens; asked for is the last answer of exactly 40, in 2,000
sequences that were never seen. Rate and weights are chosen on validation. What a delta rule with negative eigenvalues
learns (Grazzi et al. 2024, arXiv 2411.12537), one without, and Mamba-2, cannot: those two are the controls. The same
weights are then asked after 80 tokens.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from assay.api import measure
from assay.errors import RequestError
from assay.study.asked import StudyConfig
from assay.study.run import train

LENGTH, BATCH, VALIDATED, TESTED = 40, 256, 512, 2_000
ARMS = {
    "negative eigenvalues": "delta-net:negative_eigenvalues=true,n_heads=2,head_dim=32",
    "delta-net": "delta-net:n_heads=2,head_dim=32",
    "mamba2": "mamba2:d_state=32,head_dim=32",
}
TASKS = {
    "parity": "parity:",
    "modulo 5": "modular_sum:modulus=5,",
    "S3": "permutations:objects=3,",
    "swaps of five": "permutations:objects=5,swaps=true,",
    "S5": "permutations:objects=5,",
}
LAST_ONLY = {"parity"}
"""Asked for after the last token alone, as the literature does; the others after every token, which teaches faster."""


class Scale(NamedTuple):
    """How long it may take."""

    sequences: int
    rates: tuple[float, ...]
    seeds: int


SCALES = {"smoke": Scale(4 * BATCH, (3e-3,), 1), "pocket": Scale(100_000, (3e-3, 1e-2), 3)}


def task_of(name: str) -> str:
    """The task with its axes."""
    asked = "targets=last,at_most=true" if name in LAST_ONLY else "targets=every"
    return f"{TASKS[name]}length={LENGTH},{asked}"


def answers_in(task: str) -> int:
    """Of one sequence; splits are measured in answers."""
    return 1 if "targets=last" in task else LENGTH


def one_run(task: str, arm: str, rate: float, seed: int, sequences: int, folder: Path) -> dict[str, Any]:
    """Train and measure one arm, or read what is there."""
    config = StudyConfig.parse(
        {
            "kind": "run",
            "arms": [arm],
            "seeds": [seed],
            "size": None,
            "model": {"d_model": 64, "n_layers": 2},
            "data": {"task": task},
            "training": {
                "tokens": sequences * LENGTH,
                "batch_tokens": BATCH * LENGTH,
                "context": LENGTH,
                "learning_rate": rate,
                "warmup_share": 0.01,
                "schedule": "constant",
                "validation_interval": 25,
                "validation_tokens": VALIDATED * answers_in(task),
                "stop_at_nats": 0.002,
                "weights": "best",
            },
            "evaluation": {"test_tokens": TESTED * answers_in(task)},
            "measurements": ["likelihood", "answers"],
        }
    )
    run = train(config, folder, lambda _: None, [])
    answers = run.results["answers"].values
    reads = [stretch for stretch in answers["stretches"] if stretch["axis"] == "read" and stretch["last"] >= LENGTH]
    last = answers if task.startswith("parity") else reads[-1]
    outcome = {
        "longer": at_twice_the_length(folder, task),
        "rate": rate,
        "seed": seed,
        "validation_nats": min(point.nats_per_token for point in run.record.validation_curve),
        "sequences": run.record.tokens // LENGTH,
        "accuracy": last["accuracy"],
        "low": last.get("low"),
        "high": last.get("high"),
        "floor": answers["bag_floor"],
    }
    print(f"{task} {arm} lr={rate:g} seed {seed}: {outcome['accuracy']:.3f} after {outcome['sequences']:,}",
          file=sys.stderr)  # fmt: skip
    return outcome


def at_twice_the_length(folder: Path, task: str) -> float:
    """The accuracy of the same weights after twice as many tokens."""
    longer = task.replace(f"length={LENGTH}", f"length={2 * LENGTH}").replace(",at_most=true", "")
    (looked,) = measure(
        folder,
        only=["answers"],
        data={"task": longer.replace("targets=every", "targets=last")},
        training={"context": 2 * LENGTH},
        evaluation={"test_tokens": TESTED},
    )
    columns = {column.key: column.value for row in looked.rows for column in row.columns}
    return float(columns["accuracy"] or 0.0)


def best_rate(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs, one a seed, of the rate whose median validation is the lowest."""
    rates = sorted({outcome["rate"] for outcome in outcomes})
    median = {
        rate: statistics.median(
            nats if math.isfinite(nats) else math.inf
            for nats in (outcome["validation_nats"] for outcome in outcomes if outcome["rate"] == rate)
        )
        for rate in rates
    }
    chosen = min(rates, key=lambda rate: median[rate])
    return [outcome for outcome in outcomes if outcome["rate"] == chosen]


def show(results: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """A row a task and arm."""
    table = Table(title=f"After {LENGTH} tokens, two layers of width 64", box=None, title_justify="left")
    for head in ("task", "arm", "rate", "accuracy by seed", f"after {2 * LENGTH} tokens", "floor", "sequences"):
        table.add_column(head, justify="left" if head in ("task", "arm") else "right")
    for task, arms in results.items():
        for arm, of in arms.items():
            accuracies = " ".join(f"{one['accuracy']:.3f}" for one in of)
            sequences = " ".join(f"{one['sequences']:,}" for one in of)
            longer = " ".join(f"{one['longer']:.3f}" for one in of)
            table.add_row(task, arm, f"{of[0]['rate']:g}", accuracies, longer, f"{of[0]['floor']:.3f}", sequences)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--only", help="tasks, separated by commas")
    parser.add_argument("--arms", help="arms, separated by commas")
    parser.add_argument("--rates", help="learning rates in place of the scale's, separated by commas")
    parser.add_argument("--seeds", type=int, help="how many, in place of the scale's")
    parser.add_argument("--out", type=Path, default=Path("runs/state_tracking"), help="folder of the runs")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    scale = scale._replace(
        rates=tuple(map(float, options.rates.split(","))) if options.rates else scale.rates,
        seeds=options.seeds or scale.seeds,
    )
    tasks = options.only.split(",") if options.only else list(TASKS)
    arms = options.arms.split(",") if options.arms else list(ARMS)
    for option, given, known in (("--only", tasks, TASKS), ("--arms", arms, ARMS)):
        if unknown := [name for name in given if name not in known]:
            print(f"state_tracking: {option} {unknown[0]}: one of {', '.join(known)} would do", file=sys.stderr)
            return 2
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    try:
        for task in tasks:
            for arm in arms:
                place = options.out / options.scale / task.replace(" ", "-") / arm.replace(" ", "-")
                outcomes = [
                    one_run(task_of(task), ARMS[arm], rate, seed, scale.sequences, place / f"lr={rate:g}-seed{seed}")
                    for rate in scale.rates
                    for seed in range(scale.seeds)
                ]
                results.setdefault(task, {})[arm] = best_rate(outcomes)
    except RequestError as error:
        print(f"state_tracking: {error}", file=sys.stderr)
        return 2
    show(results)
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
