"""How many runs go on at a time: as many as cores where models are small, fewer where memory is short."""

from assay.errors import RequestError
from assay.model.plan import available_cores
from assay.parsing import parse_number
from assay.study.resolve import Study, training_flops
from assay.training.memory import available_bytes, training_bytes

WORTH_A_PROCESS_FLOPS = 1.2e11
"""A run of fewer training FLOPs takes no longer than starting a process, some seconds."""
PROCESS_BYTES = 700_000_000
"""What Python with torch takes, about, before a model is there."""


def parse_workers(text: str | None) -> int | None:
    """A number of workers, None where assay decides; anything else than that or `auto` is a RequestError."""
    if text is None or text.strip() == "auto":
        return None
    number = parse_number(text)
    if not isinstance(number, int) or number < 1:
        raise RequestError(f"--workers {text}: auto, or a whole number above zero, is needed")
    return number


def resolve_workers(asked: int | None, study: Study) -> int:
    """The number of runs that go on at a time; None leaves it to the size of the models, the cores and the memory."""
    runs = len(study.arms) * len(study.config.seeds)
    if asked is not None:
        return min(asked, runs)
    cheapest = min(training_flops(arm) for arm in study.arms)
    if study.plan.device != "cpu" or cheapest < WORTH_A_PROCESS_FLOPS:
        return 1
    largest = max(training_bytes(arm.architecture, arm.config, arm.training) for arm in study.arms)
    by_memory = available_bytes() // (PROCESS_BYTES + largest)
    return max(1, min(available_cores() // study.plan.threads, by_memory, runs))
