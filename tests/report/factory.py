"""Made-up but plausible records of runs: three architectures, a falling loss, seeds that spread by 0.02 nats."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from assay.analysis.comparison import compare_runs
from assay.records import (
    CurvePoint,
    Floor,
    Flops,
    MeasuredRun,
    MeasurementResult,
    Ngram,
    Parameters,
    RunRecord,
    StudyRecord,
)
from assay.records.embedded import results_of_run, results_of_study
from assay.records.results import in_order
from assay.records.run import MEASURED_INSIDE
from assay.seeding import derive

LEVELS = {"gpt1": 5.02, "mamba2": 4.71, "rwkv6": 4.74}
TOKENS, DOCUMENTS = 655_360, 60
FLOORS = {
    "unigram": Floor(nats_per_token=6.31, perplexity=math.exp(6.31), bits_per_byte=2.64),
    "ngram": Floor(
        nats_per_token=5.21,
        perplexity=math.exp(5.21),
        bits_per_byte=2.18,
        ngram=Ngram(
            order=3,
            discounts=[(0.5, 1.0, 1.5)] * 3,
            validation_nats=[6.3, 5.4, 5.2, 5.3],
            scored_nats=[6.31, 5.42, 5.21, 5.32],
        ),
    ),
}
PROTOCOL: dict[str, Any] = {
    "body": "native",
    "match": "total",
    "size": "1M",
    "tokens": TOKENS,
    "seeds": [0, 1, 2],
    "training": {"learning_rate": 0.003, "schedule": "cosine", "context": 256, "batch_tokens": 4096},
}
CORPUS = {"name": "stdlib", "tokenizer": "bpe:4096", "documents": {"train": 812, "validation": 103, "test": DOCUMENTS}}
ENVIRONMENT = {"assay": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "processor": "two cores"}


@dataclass(frozen=True)
class MadeUp(MeasuredRun):
    """A run whose results are made of what a record of version 2 held inside."""

    inside: dict[str, Any] = field(default_factory=dict)


def made_up(values: dict[str, Any]) -> MadeUp:
    """A run from the fields of a record of version 2."""
    inside = {name: values.get(name) for name in MEASURED_INSIDE}
    record = RunRecord.model_validate({name: value for name, value in values.items() if name not in inside})
    results = results_of_run({**record.model_dump(), **inside})
    return MadeUp(record, in_order(results), {}, inside)


def changed(of: MadeUp, **changes: Any) -> MadeUp:
    """The run with other fields, of its record or of what was measured."""
    return made_up({**dict(of.record), **of.inside, **changes})


def speeds(**arms: dict[str, Any]) -> dict[str, MeasurementResult]:
    """The results of a study with these speeds, by label."""
    values = {"arms": [{"label": label, "speed": speed} for label, speed in arms.items()], "headline": []}
    return in_order(results_of_study(values))


def spec(label: str, seed: int, architecture: str | None = None, **changes: Any) -> dict[str, Any]:
    """What a run was asked: `changes` are keys of its training or its model."""
    training = {"tokens": TOKENS, "learning_rate": 0.003, "weight_decay": 0.1, "context": 256}
    model = {"d_model": 128, "n_layers": 6, "d_ff": 512, "heads": "tied", "body": "native"}
    model |= {"initialisation": "own", "dropout": 0.0, "vocab_size": 4096}
    own = {key: value for key, value in changes.items() if key not in training}
    training |= {key: value for key, value in changes.items() if key in training}
    replicate = own.pop("replicate", 0)
    return {
        "architecture": architecture or label,
        "seed": seed,
        "replicate": replicate,
        "model": model | own,
        "training": training,
        "data": {"corpus": "stdlib", "tokenizer": "bpe:4096"},
    }


def arm_run(label: str, seed: int, nats: float | None = None, architecture: str = "gpt1", **asked: Any) -> MadeUp:
    """One run of an arm that was `asked` something else than the architecture of its name."""
    said_digest = asked.pop("spec_digest", None)
    said = spec(label, seed, architecture, **asked)
    fields = {"spec": said, "spec_digest": digest(said) if said_digest is None else said_digest}
    return run(label, seed, nats, architecture=architecture, replicate=said["replicate"], **fields)


def digest(of: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def run(label: str, seed: int, nats: float | None = None, **changes: Any) -> MadeUp:
    """One finished run, of the architecture that is called `label`.

    `nats` fixes its test score, `changes` replaces fields of the record.
    """
    architecture = str(changes.get("architecture", label))
    generator = np.random.default_rng(derive(seed, f"test/{label}"))
    # What a seed does to all arms alike (its batches) is larger than what is left between them.
    shared = np.random.default_rng(derive(seed, "test")).normal(0, 0.02)
    level = LEVELS.get(architecture, 4.9) + shared + generator.normal(0, 0.004) if nats is None else nats
    depth = 6 if architecture != "mamba2" else 12
    fields: dict[str, Any] = {
        "label": label,
        "architecture": architecture,
        "seed": seed,
        "spec": spec(label, seed),
        "spec_digest": digest(spec(label, seed)),
        "plan": {"device": "cpu", "precision": "float32", "threads": 2},
        "status": "finished",
        "steps": TOKENS // 4096,
        "tokens": TOKENS,
        "parameters": Parameters(total=1_020_480, embedding=614_400, non_embedding=406_080),
        "flops_per_token": Flops(forward=2_910_000, training=8_730_000),
        "state_bytes": 48_000 if architecture != "gpt1" else 589_824,
        "dimensions": {"d_model": 128, "n_layers": depth},
        "test": likelihood(level, generator),
        "training_curve": curve(level, range(1, 161), generator, 0.06),
        "validation_curve": curve(level, range(20, 161, 20), generator, 0.004),
        "signals_initial": signals(depth, 1.02, generator),
        "signals_trained": signals(depth, 1.4, generator),
        "output_health": health("HEALTHY"),
        "train_tokens_per_second": 12_345.0 + 100 * seed,
        "peak_memory_bytes": 412_000_000 + seed,
        "data_chain": hashlib.sha256(f"chain {seed}".encode()).hexdigest(),
        "forms": {"attention": ["fused"]} if architecture == "gpt1" else {"scan": ["chunked"]},
        "interruptions": 0,
        "chain_broken": None,
        "corpus_digest": "c" * 64,
        "environment": ENVIRONMENT,
    }
    return made_up({**fields, **changes})


def diverged(label: str, seed: int, **changes: Any) -> MadeUp:
    """A run that stopped at step 40: fewer tokens, another chain, no scores."""
    stopped: dict[str, Any] = {"status": "diverged", "steps": 40, "tokens": 40 * 4096, "test": None}
    stopped |= {"data_chain": "d" * 64, "output_health": None, "signals_trained": None}
    return run(label, seed, **stopped | changes)


def runs(seeds: int = 3, names: tuple[str, ...] = ("gpt1", "rwkv6", "mamba2")) -> list[MadeUp]:
    return [run(name, seed) for name in names for seed in range(seeds)]


def study(
    of: list[MadeUp],
    match: Literal["total", "non-embedding", "blocks+head"] | None = "total",
    changes: dict[str, Any] | None = None,
    **settings: Any,
) -> StudyRecord:
    """Their record; `settings` are those of `compare_runs`, `changes` replaces fields of what it gives."""
    record = compare_runs(of, PROTOCOL, CORPUS, FLOORS, ENVIRONMENT, match, **settings)
    return StudyRecord.model_validate({**record.model_dump(), **(changes or {})})


def likelihood(nats: float, generator: np.random.Generator) -> dict[str, Any]:
    tokens = np.random.default_rng(derive(0, "documents")).integers(200, 3000, size=DOCUMENTS)
    per_token = nats + generator.normal(0, 0.03, size=DOCUMENTS)
    per_token += nats - (per_token * tokens).sum() / tokens.sum()
    return {
        "nats_per_token": nats,
        "perplexity": math.exp(nats),
        "bits_per_byte": nats / math.log(2) / 3.45,
        "tokens": int(tokens.sum()),
        "bytes": int(3.45 * tokens.sum()),
        "document_nats": (per_token * tokens).tolist(),
        "document_tokens": tokens.tolist(),
        "document_bytes": (3 * tokens).tolist(),
        "document_sources": list(range(DOCUMENTS)),
        "nats_by_position": [nats + 0.9 * math.exp(-stretch / 2) - 0.1 for stretch in range(8)],
        "position_edges": list(range(0, 257, 32)),
        "recall_nats": 0.45 * nats,
        "recall_tokens": int(0.3 * tokens.sum()),
        "other_nats": 1.24 * nats,
    }


def curve(level: float, steps: range, generator: np.random.Generator, noise: float) -> list[CurvePoint]:
    return [
        CurvePoint(
            step=step,
            tokens=4096 * step,
            nats_per_token=level + 3.6 * math.exp(-((step / 12) ** 0.6)) + generator.normal(0, noise),
        )
        for step in steps
    ]


def signals(depth: int, factor: float, generator: np.random.Generator) -> dict[str, Any]:
    std = [0.021, *(0.9 * factor**block * math.exp(generator.normal(0, 0.05)) for block in range(depth))]
    without = std[-1] / std[1]
    verdict = "AMPLIFIER" if without > 1.5 else "DAMPER" if without < 0.5 else "NEUTRAL"
    return {
        "std": std,
        "rms": std,
        "growth_with_embedding": std[-1] / std[0],
        "growth_without_embedding": without,
        "verdict_with_embedding": "AMPLIFIER",
        "verdict_without_embedding": verdict,
    }


def health(verdict: Literal["HEALTHY", "OVERCONFIDENT"]) -> dict[str, Any]:
    return {
        "logit_low": -9.1,
        "logit_high": 12.4,
        "max_probability": 0.94,
        "share_above_099": 0.002,
        "entropy_nats": 4.6,
        "entropy_share": 0.55,
        "loss_minus_entropy_nats": 0.03,
        "verdict": verdict,
        "document_000_verdict": "HEALTHY",
    }
