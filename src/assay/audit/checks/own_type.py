"""Causality in the model's own number type, and under autocast, where other kernels may run than in float64.

Shapes: T tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.audit.blame.where import placed, trace_over_time
from assay.audit.probing.evidence import Change
from assay.audit.probing.search import Search
from assay.audit.subject.differences import change, spread
from assay.audit.subject.memory import Memory
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

TIMES_REPEATS = 20.0
UNITS, SMALLEST = 2.0, 1e-4
"""Changes up to UNITS units in the last place, or SMALLEST of the logits, count as rounding even where repeated runs
agree exactly: some sound models compute all positions at once, by Fourier transforms, whose rounding mixes positions.
"""
FINER = 25.0
"""Modules are compared with a threshold finer by this factor than that of logits: runs of equal shape round alike."""
LONG, SHORT = 128, 24
"""Numbers of tokens for a large model: in its own type, and under autocast."""


def own_type(subject: Subject, search: Search) -> list[Finding]:
    """Causality failures on the weights as given in eval mode; none where float64 is the model's own type.

    The search is small: a kernel that leaks lets whole values through, not traces of them, so a few positions show it.
    A change counts from 20 times the largest difference between repeated runs of the same row, which is repeated only
    where something moved.
    """
    if not subject.wide or not subject.narrow or search.longest < 2:
        return []
    lengths = (LONG, SHORT) if search.brief else (search.longest, search.middle)
    found = []
    with _narrowed(subject):
        name = str(subject.own_type).removeprefix("torch.")
        found.append(_replaced(subject, search, lengths[0], torch.finfo(subject.own_type).eps, f"in {name}"))
        if subject.own_type is torch.float32:
            subject.autocast = True
            unit = torch.finfo(torch.bfloat16).eps
            found.append(_replaced(subject, search, lengths[1], unit, "under autocast to bfloat16"))
    return [finding for finding in found if finding is not None]


@contextmanager
def _narrowed(subject: Subject) -> Iterator[None]:
    """Inside the block the copy has its own number types again; afterwards it is as before."""
    subject.use("given")
    given, quick = subject.memories["given"], subject.asks_for_no_type
    for tensor, values in subject.narrow:
        tensor.data = values.clone()
    subject.memories["given"], subject.wide = Memory(subject.model), False
    try:
        yield
    finally:
        subject.memories["given"], subject.wide, subject.asks_for_no_type = given, True, quick
        subject.autocast = False
        subject.use("given")


def _replaced(subject: Subject, search: Search, length: int, unit: float, words: str) -> Finding | None:
    """Replace every token after the middle: no logit before it may move by more than repeated runs differ."""
    length = subject.takes.fit(min(length, search.longest))
    cut = max(0, length // 2 - 2)
    generator = torch.Generator().manual_seed(search.seed + 11)
    base, other = (torch.randint(subject.vocab_size, (length,), generator=generator) for _ in range(2))
    changed = torch.cat([base[: cut + 1], other[cut + 1 :]])
    try:
        before, after = (subject.one_call(ids[None])[0, : cut + 1] for ids in (base, changed))
        moved, scale = change(before, after).amax(-1), spread(before)
        least = max(UNITS * unit, SMALLEST) * scale
        if bool((moved <= least).all()):
            return None
        repeats = change(before, subject.one_call(base[None])[0, : cut + 1]).amax(-1)
    except RaisedError:  # a model that runs in float64 need not run in this type
        return None
    allowed = (TIMES_REPEATS * repeats).clamp_min(least).cummax(0).values
    place = int((moved / allowed).argmax())
    if not bool(moved[place] > allowed[place]):
        return None
    worst = Change(0, place, moved[place].item(), allowed[place].item(), (moved / allowed)[place].item())
    return _located(subject, worst, base, changed, cut, unit, words, scale)


def _located(
    subject: Subject, worst: Change, base: Tensor, changed: Tensor, cut: int, unit: float, words: str, scale: float
) -> Finding:
    finding = Finding(
        check="causality",
        status="fail",
        measured=worst.moved / scale if scale > 0 else worst.moved,
        threshold=worst.allowed / scale if scale > 0 else worst.allowed,
        explanation=f"logits move when later tokens are replaced, {words} (weights as given, eval mode)",
    )

    def second() -> None:
        subject.logits(changed[None])

    tracer, blames = trace_over_time(subject, cut + 1, unit / FINER, base[None], subject.logits, second)
    return placed(finding, tracer, blames, f"when the tokens after {cut} change, {words}")
