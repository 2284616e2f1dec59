"""Made-up gates: a baseline whose loss falls by a power law, candidates that are better by a factor of compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.analysis.gate.evidence import Evidence
from assay.records import Flops, Parameters
from report.factory import MadeUp, changed, diverged, run

SIZES, TOP = (100_000, 200_000, 400_000), 800_000
TOKENS_PER_PARAMETER, FLOPS_PER_PARAMETER = 20, 6


def loss(size: float, gain: float = 1.0, tokens_share: float = 1.0) -> float:
    """2 nats and what falls with compute; `gain`: as if the compute were so many times as large."""
    compute = 120 * size**2 * gain * tokens_share
    return 2.0 + 1.5 * (compute / 1e12) ** -0.15


def run_of(label: str, size: int, seed: int, nats: float, **changes: Any) -> MadeUp:
    """A run of one size that read 20 tokens a parameter."""
    tokens = size * TOKENS_PER_PARAMETER
    fields: dict[str, Any] = {
        "tokens": tokens,
        "parameters": Parameters(total=size, embedding=0, non_embedding=size, blocks_and_head=size),
        "flops_per_token": Flops(forward=2 * size, training=FLOPS_PER_PARAMETER * size),
        "train_tokens_per_second": 1e9 / size,
        "state_bytes": 10 * size,
        "architecture": "gpt1",
        **changes,
    }
    return changed(run(label, seed, nats), **fields)


def runs_of(
    label: str, size: int, gain: float = 1.0, seeds: int = 4, noise: float = 0.003, **changes: Any
) -> dict[int, MadeUp]:
    """Over seeds."""
    drawn = np.random.default_rng([*label.encode(), size, seeds]).normal(0, noise, seeds)
    return {seed: run_of(label, size, seed, loss(size, gain) + float(drawn[seed]), **changes) for seed in range(seeds)}


def evidence(
    gain: float = 1.0, label: str = "mine", sizes: Sequence[int] = SIZES, top: int | None = TOP, **changes: Any
) -> Evidence:
    """Of a gate of one candidate; `changes` are fields of the evidence."""
    runs: dict[tuple[str, int], Mapping[int, MadeUp]] = {}
    for size in [*sizes, *([top] if top else [])]:
        runs["gpt1", size] = runs_of("gpt1", size)
        if size in sizes:
            runs[label, size] = runs_of(label, size, gain)
    fields: dict[str, Any] = {
        "baseline": "gpt1",
        "candidates": [label],
        "placebo": [],
        "control": None,
        "sizes": list(sizes),
        "top_size": top,
        "runs": runs,
        "columns": {},
        "unsound": {},
        "tuning": {},
    }
    return Evidence(**{**fields, **changes})


def with_divergence(of: Evidence, label: str, size: int) -> Evidence:
    """The same with seed 0 of one arm diverged."""
    runs = {key: dict(by_seed) for key, by_seed in of.runs.items()}
    runs[label, size][0] = diverged(label, 0)
    return Evidence(**{**vars(of), "runs": runs})
