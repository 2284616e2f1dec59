"""How far rounding alone can move a logit: the yardstick, which every comparison of two runs uses as its threshold.

It is measured: every weight is moved at random by up to two units in the last place of the arithmetic that the model
really runs in. Another kernel, chunk or batch size may change the logits by as much. A change counts from 20 times that
on, and never below 1e-9 of the logits' root mean square. In a chaotic model rounding grows along the sequence, so there
is one threshold for each position.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assay.audit.probing.probes import mixed_row
from assay.audit.probing.search import Search
from assay.audit.subject.differences import change, spread
from assay.audit.subject.subject import Subject

SMALLEST_LEAK = 1e-9
TIMES_ROUNDING = 20.0
UNITS = 2.0
CHAOTIC = 1e4
"""A model is chaotic where the moved weights change its logits by this many times the spacing of numbers."""
SUSPICIOUS = 1e-3
REPEATS, AHEAD = 3, 16
"""In a chaotic model the measurement is repeated, and a position may move as far as one AHEAD tokens later did."""


@dataclass(frozen=True)
class Yardstick:
    """`scale`: the logits' root mean square; `allowed` [T]: how far the logits at each position may move, unscaled.

    `unit` is the relative spacing of the numbers that the model computes with, `clean` whether that is float64's;
    `finite` whether any logit is finite. `logits` [1, T, V] are those of `ids` on the fresh copy in eval mode.
    """

    scale: float
    allowed: Tensor
    unit: float
    clean: bool
    finite: bool
    ids: Tensor
    logits: Tensor

    def relative(self, moved: float) -> float:
        """`moved` relative to the logits' root mean square."""
        return moved / self.scale if self.scale > 0 else moved


def yardstick(subject: Subject, search: Search) -> Yardstick:
    """Measure the yardstick on one row of the search's longest length, in eval mode."""
    ids = mixed_row(search, subject.vocab_size, subject.special_ids)
    before = subject.reference(ids)
    subject.unit = subject.unit or arithmetic_unit(subject, ids[:, : subject.takes.fit(8)])
    scale = spread(before)
    allowed = _allowed(subject, ids, before, scale, search.seed)
    if allowed.amax() > SUSPICIOUS * scale:  # as in `measured_on`
        before = subject.logits(ids)
        allowed = _allowed(subject, ids, before, scale, search.seed)
    return Yardstick(
        scale=scale,
        allowed=allowed,
        unit=subject.unit,
        clean=subject.unit == torch.finfo(torch.float64).eps,
        finite=bool(before.isfinite().any()),
        ids=ids,
        logits=before,
    )


def measured_on(subject: Subject, yardstick: Yardstick, ids: Tensor) -> Yardstick:
    """The yardstick, raised where rounding moves the logits of these `ids` [B, T] further than those of its own row.

    In a chaotic model sequences differ much in this, so every failure is judged again with its own sequences.
    """
    subject.memory.restore()
    subject.logits(ids)  # so that a memory outside the model, which is not restored, holds the same call in all runs
    subject.memory.restore()
    allowed = _allowed(subject, ids, subject.logits(ids), yardstick.scale, 1)
    longer = torch.cat([allowed, allowed[-1:].expand(max(0, len(yardstick.allowed) - len(allowed)))])
    return replace(yardstick, allowed=longer[: len(yardstick.allowed)].maximum(yardstick.allowed))


def _allowed(subject: Subject, ids: Tensor, before: Tensor, scale: float, seed: int) -> Tensor:
    """How far the logits at each position [T] of `ids` [B, T] may move."""
    largest = rounding(subject, ids, before, scale, seed, subject.unit)
    return (TIMES_ROUNDING * largest).clamp_min(SMALLEST_LEAK * scale)


def rounding(subject: Subject, ids: Tensor, before: Tensor, scale: float, seed: int, unit: float) -> Tensor:
    """How far rounding moves the logits at each position [T] of `ids` [B, T], never less than those before it.

    `unit` is the relative spacing of the numbers that the model computes with.
    """
    generator = torch.Generator().manual_seed(seed)

    def moved() -> Tensor:
        directions = _directions(subject, generator)
        return change(before, _jittered(subject, ids, UNITS * unit, directions)).amax((0, 2))

    largest = moved()
    if largest.amax() > CHAOTIC * unit * scale:
        largest = torch.stack([largest, *(moved() for _ in range(REPEATS - 1))]).amax(0)
        largest = torch.cat([largest[AHEAD:], largest[-1:].expand(min(AHEAD, len(largest)))]).maximum(largest)
    return largest.cummax(0).values.cpu()


def arithmetic_unit(subject: Subject, ids: Tensor) -> float:
    """The spacing of float64 if the model really computes everything in it; else that of the narrower type it uses.

    Narrow arithmetic that no call of torch shows (scripted code, other libraries) is found by its rounding: moving the
    weights by a relative 1e-9 then changes the logits by far more than a thousandth of what 1e-6 does.
    """
    if not subject.wide:
        return torch.finfo(subject.own_type).eps
    if subject.narrow_seen:
        return torch.finfo(torch.float32).eps
    directions = _directions(subject, torch.Generator().manual_seed(0))
    subject.memory.restore()
    before = subject.logits(ids)
    least, small, large = (
        change(before, _jittered(subject, ids, size, directions)).amax().item() for size in (4e-16, 1e-9, 1e-6)
    )
    hidden = small > 30 * large / 1000 and small > 1000 * least
    return torch.finfo(torch.float32 if hidden else torch.float64).eps


def _directions(subject: Subject, generator: torch.Generator) -> list[Tensor]:
    """For each floating-point parameter a tensor of its shape, uniform in +-1."""
    parameters = filter(torch.is_floating_point, subject.model.parameters())
    return [torch.empty(p.shape).uniform_(-1, 1, generator=generator).to(p.device) for p in parameters]


@torch.no_grad()
def _jittered(subject: Subject, ids: Tensor, size: float, directions: list[Tensor]) -> Tensor:
    """The logits on a fresh copy with each weight w moved to w (1 + size u), where u is its entry in `directions`."""
    subject.memory.restore()
    kept = [(p, p.data) for p in filter(torch.is_floating_point, subject.model.parameters())]
    for (parameter, values), u in zip(kept, directions, strict=True):
        wide = values.double()
        parameter.data = torch.addcmul(wide, wide, u.double(), value=size).to(values.dtype)
    try:
        return subject.logits(ids)
    finally:
        for parameter, values in kept:
            parameter.data = values
