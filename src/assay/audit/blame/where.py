"""Writes a finding's `where`: traces two runs and says in words which modules make them differ, the earliest first."""

from collections.abc import Callable

from torch import Tensor

from assay.audit.blame.pairing import Pairing, up_to
from assay.audit.blame.tracer import Blame, Tracer
from assay.audit.probing.yardstick import SMALLEST_LEAK
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

SAME_SHAPE = 1e-12
OTHER_SHAPE = 1e-10
"""Relative differences inside a model that count, for two runs of equal shape and for two of different shapes.

Runs of different shapes may use different kernels, which round differently.
"""
NOTABLE = 1e-6
"""A difference smaller than the largest by this factor is taken for rounding."""
MOST_NAMED = 8
COMPILED = "._orig_mod"
"""The part that `torch.compile` puts into the names of modules."""


def tolerance(unit: float, same_shape: bool) -> float:
    """The relative difference that counts; `unit` is the spacing of the numbers that the model computes with."""
    return max(SAME_SHAPE if same_shape else OTHER_SHAPE, 100 * unit)


def trace(
    subject: Subject,
    pairing: Pairing,
    unit: float,
    first: Callable[[], object],
    second: Callable[[], object],
    between: Callable[[], object] = lambda: None,
    same_shape: bool = True,
    watch_draws: bool = False,
) -> tuple[Tracer, list[Blame]]:
    """Record `first`, run `between` untraced, compare `second`; return the modules to blame in the order they ran."""
    fingerprint = subject.drawn if watch_draws else (lambda: None)
    tracer = Tracer(subject.model, pairing, tolerance(unit, same_shape), fingerprint)
    try:
        with tracer.recording():
            first()
        between()
        with tracer.comparing():
            second()
    except RaisedError:
        return tracer, []
    return tracer, notable(list(tracer.blamed.values()))


def trace_over_time(
    subject: Subject,
    count: int,
    unit: float,
    ids: Tensor,
    run: Callable[[Tensor], object],
    second: Callable[[], object],
) -> tuple[Tracer, list[Blame]]:
    """As `trace`, for two runs on ids [B, T] that share the first `count` tokens.

    A third run with fewer tokens shows which axis of a tensor is that of positions: the one that became shorter.
    """
    length = ids.shape[1]
    limit = tolerance(unit, same_shape=True)
    shorter = Tracer(subject.model, up_to(length, count), limit)
    tracer = Tracer(subject.model, up_to(length, count), limit)
    try:
        less = subject.takes.shorter(length)
        if less is not None:
            with shorter.recording():
                run(ids[:, :less])
        with tracer.recording():
            run(ids)
        tracer.pairing = up_to(length, count, tracer.time_axes(shorter))
        with tracer.comparing():
            second()
    except RaisedError:
        return tracer, []
    return tracer, notable(list(tracer.blamed.values()))


def notable(blames: list[Blame]) -> list[Blame]:
    """`blames` without those so much smaller than the largest that they are taken for rounding."""
    largest = max((blame.relative for blame in blames), default=0.0)
    return [blame for blame in blames if blame.relative >= min(NOTABLE * largest, SMALLEST_LEAK)]


def placed(finding: Finding, tracer: Tracer, blames: list[Blame], event: str, thing: str = "position") -> Finding:
    """The finding with its `where`.

    `event` says between which runs, as in "when token 40 changes"; `thing` is what is numbered, "position" or "row".
    """
    if not blames:
        return finding
    sentences = [_sentence(tracer, blame, event, thing) for blame in blames]
    further = [f"Further: {'; '.join(sentences[1:MOST_NAMED])}."] if len(blames) > 1 else []
    if len(blames) > MOST_NAMED:
        further.append(f"{len(blames) - MOST_NAMED} more modules do the same.")
    reads = "reads, or starts from,"
    aside = [f"{tracer.title(b.module)} {reads} {'; '.join(b.aside[:3])}." for b in blames[:MOST_NAMED] if b.aside]
    return finding.model_copy(
        update={
            "where": sentences[0],
            "modules": tuple(blame.module.replace(COMPILED, "") for blame in blames),
            "explanation": " ".join([f"{finding.explanation}.", *aside, *further])
            if aside or further
            else finding.explanation,
        }
    )


def _sentence(tracer: Tracer, blame: Blame, event: str, thing: str) -> str:
    name = blame.module.replace(COMPILED, "") or tracer.title("")
    moved = "its output" if blame.position is None else f"{thing} {blame.position}"
    return f"{name}: {moved} moves {event}, by {blame.moved:.2g}"
