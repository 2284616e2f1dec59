"""Made-up results of runs: what goes on inside an arm, with a little noise from seed to seed."""

from typing import Any

import numpy as np

from assay.analysis.character.inside import Seeds
from assay.records import Code, Column, Measured, MeasuredFigure, MeasurementResult


def result(
    name: str, values: dict[str, Any], columns: list[Column] | None = None, figures: list[MeasuredFigure] | None = None
) -> MeasurementResult:
    return MeasurementResult(
        measurement=name, measurement_version=1, question="How?", unit="x", group="character", scope="run",
        measured=Measured(label="a"), code=Code(kind="built-in", name="assay"), values=values, columns=columns or [],
        figures=figures or [],
    )  # fmt: skip


def signals(growth: float, gain: float = 0.5) -> MeasurementResult:
    profile = {"growth_without_embedding": growth, "growth_with_embedding": 10 * growth, "mixer_gain": gain}
    return result("signals", {"initial": None, "trained": profile})


def state(half_life: float | None, attention: bool = False) -> MeasurementResult:
    life = None if half_life is None else {"low": half_life / 4, "median": half_life, "high": None, "longer": 0.1}
    looks = [{"distance": 20.0, "equal_distance": 32.0}] if attention else []
    profile = {"half_life": life, "lags": [1, 100], "attention": looks, "bytes": [1000, 1000], "tokens": 64}
    return result("state", {"initial": None, "trained": profile})


def contribution(mixers: float, mlps: float, shares: list[dict[str, Any]] | None = None) -> MeasurementResult:
    def effect(part: str, name: str, block: int | None, nats: float) -> dict[str, Any]:
        ends = {"mean": nats, "low": nats - 0.01, "high": nats + 0.01}
        return {"part": part, "name": name, "block": block, "kind": "mean", "nats": ends}

    effects = [effect("mixer", "all", None, mixers), effect("mlp", "all", None, mlps)]
    effects += [effect("mixer", "Mixer", 0, mixers / 2), effect("mlp", "MLP", 1, mlps / 2)]
    return result("contribution", {"initial": None, "trained": {"effects": effects, "shares": shares or []}})


def context(rises: float, positions: int | None = None, lacks: str | None = None) -> MeasurementResult:
    tokens = [64, 128] if positions else [64, 128, 256, 512]
    lengths = [
        {"tokens": at, "nats": {"mean": 3.0 + (rises if at > 256 else 0.0)}, "above_best": {"low": rises - 0.01}}
        for at in tokens
    ]
    return result(
        "context", {"lacks": lacks, "trained": 128, "lengths": lengths, "positions": positions, "too_long": []}
    )


def recall(repeated: float, other: float) -> MeasurementResult:
    values = {"recall": repeated, "other": other}
    return result("recall", {}, [Column(key=k, head=k, format="nats", value=v) for k, v in values.items()])


def arm(
    growth: float = 1.0,
    half_life: float | None = 10.0,
    parts: tuple[float, float] = (0.5, 0.2),
    rises: float = 0.0,
    tokens: tuple[float, float] = (2.0, 3.0),
    seeds: int = 5,
    noise: float = 0.001,
) -> Seeds:
    """An arm whose seeds differ by about `noise`."""
    draw = np.random.default_rng(0)

    def near(value: float) -> float:
        return value + noise * float(draw.standard_normal())

    return {
        seed: {
            "signals": signals(near(growth)),
            "state": state(None if half_life is None else near(half_life), attention=half_life is None),
            "contribution": contribution(near(parts[0]), near(parts[1])),
            "context": context(near(rises) if rises else 0.0),
            "recall": recall(near(tokens[0]), near(tokens[1])),
        }
        for seed in range(seeds)
    }
