"""A made-up study with all there is: four arms, a grid of learning rates, two sizes, additions after a look."""

from typing import Any

import numpy as np

from assay.analysis.ranking.entrants import Point
from assay.analysis.rule import Tuning
from assay.records import Addition, CurvePoint, Flops, MeasurementResult, Parameters, StudyRecord
from report.factory import TOKENS, MadeUp, arm_run, changed, diverged, speeds, study

RATES = (0.001, 0.003, 0.01)
SIZES = (500_000, 1_000_000)
ARMS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "gpt1": ("gpt1", 5.02, {}),
    "b": ("gpt1", 5.025, {"replicate": 1}),
    "rwkv6:head_dim=32": ("rwkv6", 4.74, {"head_dim": 32}),
    "rwkv6": ("rwkv6", 4.76, {"head_dim": 64, "dropout": 0.1}),
}
ADDED = [
    Addition(when="2026-11-27T09:00:00Z", looks=0, measurements=["speed"]),
    Addition(when="2026-11-28T18:00:00Z", looks=1, seeds=[3]),
]


def grid_runs(seeds: int = 4) -> tuple[list[MadeUp], dict[str, Point]]:
    """Every arm at every size with every rate; the highest rate is best for rwkv6, and diverges once for `b`."""
    runs, points = [], {}
    for size in SIZES:
        for group, (architecture, nats, asked) in ARMS.items():
            for rate in RATES:
                label = f"{group}@{size / 1e6:g}M,lr={rate:g}"
                points[label] = Point(group, size, rate)
                for seed in range(seeds):
                    worse = abs(RATES.index(rate) - (2 if "rwkv6" in group else 1))
                    level = nats + 0.1 * worse + (0.15 if size < 1_000_000 else 0.0) + 0.02 * seed
                    level += float(np.random.default_rng(len(runs)).normal(0, 0.006))
                    run = arm_run(label, seed, level, architecture, learning_rate=rate, d_model=size // 8000, **asked)
                    runs.append(sized(run, size))
    lost = next(i for i, run in enumerate(runs) if run.record.label == "b@1M,lr=0.01")
    broken = diverged(runs[lost].record.label, 0, architecture="gpt1", spec=runs[lost].record.spec, replicate=1)
    runs[lost] = sized(changed(broken, spec_digest=runs[lost].record.spec_digest), SIZES[1])
    return runs, points


def sized(run: MadeUp, size: int) -> MadeUp:
    parameters = Parameters(total=size + 480, embedding=size // 2, non_embedding=size // 2 + 480)
    return changed(run, parameters=parameters, flops_per_token=Flops(forward=2 * size, training=6 * size))


def validated(run: MadeUp, nats: float) -> MadeUp:
    """The run with these nats on the validation split at its end."""
    return changed(run, validation_curve=[CurvePoint(step=run.record.steps, tokens=TOKENS, nats_per_token=nats)])


def speed(tokens_per_second: float, spread: float = 0.05) -> dict[str, Any]:
    return {
        "tokens_per_second": tokens_per_second,
        "low": tokens_per_second * (1 - spread),
        "high": tokens_per_second * (1 + spread),
        "rounds": 5,
        "steps_per_round": 3,
        "threads": 2,
        "device": "cpu",
        "precision": "float32",
    }


def everything() -> tuple[StudyRecord, list[MadeUp], dict[str, MeasurementResult]]:
    runs, points = grid_runs()
    labels = list(dict.fromkeys(run.record.label for run in runs))
    results = speeds(
        **{label: speed(2970 + 100 * index, 0.4 if index == 1 else 0.05) for index, label in enumerate(labels)}
    )
    record = study(
        runs, points=points, results=results, added=ADDED, tuning=Tuning(learning_rates=list(RATES)),
        changes={"protocol": {"arms": ["gpt1"], "plugins": [{"path": "my mixer.py"}]}},
    )  # fmt: skip
    return record, runs, results
