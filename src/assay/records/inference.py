"""What reading and generating cost each arm: seconds, bytes, how both grow with the context, and where arms cross."""

from typing import Literal

from assay.records.versioned import Record

Quantity = Literal["prefill", "step", "memory"]
"""Seconds to read a context; seconds of one token behind it; bytes at the peak of reading it."""
INFERENCE = ("inference", "inference_quick")
"""The measurements whose values are an `Inference`, the document's protocol first."""


class InferenceProtocol(Record):
    """How often what is measured, batch 1 but for the training step; every repetition is a turn of all arms."""

    name: str
    prefill_tokens: int
    prefill_repeats: int
    generated_tokens: int
    generation_repeats: int
    contexts: list[int]
    context_repeats: int
    step_tokens: int
    """The tokens behind each context whose mean is one value of `step`."""
    training_batch: int
    """Windows of `prefill_tokens` in a training step."""


class Timing(Record):
    """Seconds: the median over repetitions, and the range."""

    median: float
    low: float
    high: float
    repeats: int


class AtContext(Record):
    """The cost of one context: `prefill` to read all of it, `step` for one token behind it."""

    context: int
    prefill: Timing
    step: Timing | None
    """None where the model has no position for more tokens."""
    working_bytes: int | None
    """The most bytes allocated at once beyond the weights while it is read, its state included."""


class Growth(Record):
    """The exponent of a power of the context, fitted by least squares on logarithms, with Student's interval."""

    exponent: float
    low: float | None
    high: float | None
    contexts: int
    last_doubling: float
    """The same exponent of the last two contexts alone."""


class ArmInference(Record):
    """One arm's costs; None where it has fewer learned positions than the protocol asks for."""

    prefill: Timing | None
    generation: Timing | None
    """Seconds of one token."""
    training_step: Timing | None
    weight_bytes: int
    peak_bytes: int | None
    """Weights, and the most bytes allocated at once beyond them, in a prefill of the protocol's length."""
    contexts: list[AtContext]
    time_growth: Growth | None
    step_growth: Growth | None
    memory_growth: Growth | None
    """Of the bytes beyond the weights."""
    not_applicable: list[str] = []


class Crossover(Record):
    """Which of two arms takes less of a quantity, over the contexts that both were measured at."""

    quantity: Quantity
    less_at_first: str | None
    """The label of the arm that takes less at the shortest context; None where the ranges overlap."""
    less_at_last: str | None
    arms: tuple[str, str]
    contexts: tuple[int, int]
    """The shortest and the longest."""
    context: float | None
    """From about how many tokens on the other arm takes less; None where the arms do not cross in between."""
    low: float | None = None
    """From where on the ranges of the two allow it; older records do not say."""
    high: float | None = None
    """From where on the whole range of the other arm lies below."""


class Inference(Record):
    """All arms of a study, and how they were measured."""

    protocol: InferenceProtocol
    device: str
    precision: str
    threads: int
    memory_method: str
    together: list[list[str]]
    """The arms that took turns with each other; several groups where memory does not hold all at once."""
    arms: dict[str, ArmInference]
    crossovers: list[Crossover]
