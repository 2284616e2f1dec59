"""The words of `where`: the earliest module to blame first, then the others, and what they read beside their inputs."""

from collections.abc import Callable

from torch import Tensor

from assay.audit.blame.pairing import Pairing, up_to
from assay.audit.blame.tracer import Blame, Tracer
from assay.audit.probing.yardstick import SMALLEST_LEAK
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

SAME_SHAPE = 1e-12
OTHER_SHAPE = 1e-10
"""What counts as a difference inside a model, relative, where both runs take the same kernels and where they do not."""
NOTABLE = 1e-6
"""Blames this much smaller than the largest are rounding where anything larger than rounding has been found."""
MOST_NAMED = 8


def tolerance(unit: float, same_shape: bool) -> float:
    """Relative; `unit` is the spacing of the numbers that the model computes with."""
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
    """Record `first`, run `between` unseen, compare `second`; the modules to blame in the order they ran."""
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
    """As `trace`, of two runs on `ids` [B, T] that share the first `count` tokens.

    A third run with fewer tokens tells which axis of a tensor counts them, whatever else is as long as the sequence.
    """
    length = ids.shape[1]
    limit = tolerance(unit, same_shape=True)
    shorter = Tracer(subject.model, up_to(length, count), limit)
    tracer = Tracer(subject.model, up_to(length, count), limit)
    try:
        if length > subject.multiple:
            with shorter.recording():
                run(ids[:, : length - subject.multiple])
        with tracer.recording():
            run(ids)
        tracer.pairing = up_to(length, count, tracer.time_axes(shorter))
        with tracer.comparing():
            second()
    except RaisedError:
        return tracer, []
    return tracer, notable(list(tracer.blamed.values()))


def notable(blames: list[Blame]) -> list[Blame]:
    """Without those that only rounding explains beside the larger ones."""
    largest = max((blame.relative for blame in blames), default=0.0)
    return [blame for blame in blames if blame.relative >= min(NOTABLE * largest, SMALLEST_LEAK)]


def placed(finding: Finding, tracer: Tracer, blames: list[Blame], event: str, thing: str = "position") -> Finding:
    """The finding with its `where`: `event` is what happened, "when token 40 changes", `thing` what is numbered."""
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
            "modules": tuple(blame.module for blame in blames),
            "explanation": " ".join([f"{finding.explanation}.", *aside, *further])
            if aside or further
            else finding.explanation,
        }
    )


def _sentence(tracer: Tracer, blame: Blame, event: str, thing: str) -> str:
    name = blame.module or tracer.title("")
    moved = "its output" if blame.position is None else f"{thing} {blame.position}"
    return f"{name}: {moved} moves {event}, by {blame.moved:.2g}"
