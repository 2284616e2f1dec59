"""How many runs go on at a time: as many as cores where models are small, fewer where memory is short."""

import re
from pathlib import Path

from assay.errors import RequestError
from assay.model.accounting import count_flops, count_parameters
from assay.model.plan import available_cores, memory_bytes
from assay.model.sizing import build_on_meta
from assay.study.resolve import ResolvedArm, Study

WORTH_A_PROCESS_FLOPS = 2e11
"""A run of fewer training FLOPs takes no longer than starting a process, some seconds."""
PROCESS_BYTES = 700_000_000
"""About the memory that Python with torch takes without a model."""
LOGIT_BYTES = 16
"""Bytes per logit: float32, its gradient, and what the loss stores besides."""


def parse_workers(text: str | None) -> int | None:
    """A number of workers, None where assay decides; anything else than that or `auto` is a RequestError."""
    if text is None or text.strip() == "auto":
        return None
    if not text.strip().isdigit() or int(text) < 1:
        raise RequestError(f"--workers {text}: auto, or a whole number above zero, is needed")
    return int(text)


def resolve_workers(asked: int | None, study: Study) -> int:
    """The number of runs that go on at a time; None leaves it to the size of the models, the cores and the memory."""
    runs = len(study.arms) * len(study.config.seeds)
    if asked is not None:
        return min(asked, runs)
    cheapest = min(training_flops(study, arm) for arm in study.arms)
    if study.plan.device != "cpu" or cheapest < WORTH_A_PROCESS_FLOPS:
        return 1
    largest = max(bytes_of_training(arm) for arm in study.arms)
    by_memory = available_bytes() // (PROCESS_BYTES + largest)
    return max(1, min(available_cores() // study.plan.threads, by_memory, runs))


def training_flops(study: Study, arm: ResolvedArm) -> float:
    """The training FLOPs of one run of the arm."""
    training = study.config.training
    return count_flops(build_on_meta(arm.architecture, arm.config), training.context).training * training.tokens


def bytes_of_training(arm: ResolvedArm) -> int:
    """A generous estimate of a run's memory: weights, gradients, AdamW's moments and the activations of a batch."""
    tokens = arm.training.micro_batch_tokens or arm.training.batch_tokens
    parameters = count_parameters(build_on_meta(arm.architecture, arm.config)).total
    return 16 * parameters + tokens * (
        100 * arm.config.d_model * arm.config.n_layers + LOGIT_BYTES * arm.config.vocab_size
    )


def available_bytes() -> int:
    """Bytes of memory available now, file caches included; all memory of the machine where the system does not tell."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    return int(found[1]) * 1024 if found is not None else memory_bytes("cpu") or 0
