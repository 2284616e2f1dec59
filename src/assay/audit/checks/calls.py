"""Isolation of calls: a call does not influence the next.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.audit.blame.attributes import Contents, remembered
from assay.audit.blame.pairing import everything
from assay.audit.blame.where import placed, trace
from assay.audit.checks.balancing import balanced_by
from assay.audit.checks.rows import batches
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.subject.subject import Subject
from assay.records import Finding

BALANCED = (
    "training calls nudge `{name}`, by {nudge:.2g} at most and by counts of choices, which moves the next call's"
    " logits: balancing, as training does; every other check begins from one state"
)


class _Comparison(NamedTuple):
    """How far the logits of a call on `ids` differ between two `pasts`: calls made before it on a fresh copy."""

    found: Change
    ids: Tensor
    pasts: tuple[Sequence[Tensor], Sequence[Tensor]]


def calls(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """In eval mode a call gives what it gives on a fresh copy, whatever was called before: other ids, other shapes.

    In training mode a call gives the same after as many earlier calls on other ids: a layer may count its calls, or
    refine an estimate of its own weights (spectral norm), but not remember tokens. A bias that balances loads by counts
    (balancing.py) is a warning.
    """
    base, other = batches(subject, search, 2)
    restores, subject.restores = subject.restores, False
    subject.keeps_changes = True
    try:
        return _compared(subject, yardstick, training, base, other)
    finally:
        subject.restores, subject.keeps_changes = restores, False
        subject.memory.restore()


def _compared(subject: Subject, yardstick: Yardstick, training: bool, base: Tensor, other: Tensor) -> Finding:
    pasts = _by_contents if training else _by_history
    compared = pasts(subject, base, other, subject.takes.shorter(base.shape[1]), yardstick)
    if compared.found.excess > 1:
        yardstick = measured_on(subject, yardstick, torch.cat([base, other]))
        compared = pasts(subject, base, other, subject.takes.shorter(base.shape[1]), yardstick)
    words = "a call gives other logits after other calls" + ("" if training else " than on a fresh copy")
    finding = finding_of("isolation", compared.found, yardstick, "a call does not move the next", words)
    if finding.status == "pass":
        return finding
    balanced = balanced_by(subject, base, other, yardstick) if training else None
    if balanced is not None:
        name, nudge = balanced
        return finding.model_copy(update={"status": "warn", "explanation": BALANCED.format(name=name, nudge=nudge)})
    return _located(subject, finding, compared, yardstick, training)


def _by_history(subject: Subject, x: Tensor, y: Tensor, shorter: int | None, yardstick: Yardstick) -> _Comparison:
    """For eval mode: does a call depend on the calls before it?

    On a fresh copy the batches x, z (another shape), y and x again are run in this order, and y alone on another fresh
    copy. The second x must equal the first, and y must equal y alone; the larger difference is returned.
    """
    z = y[:1, :shorter]
    subject.memory.restore()
    first, _, second, again = (subject.logits(ids) for ids in (x, z, y, x))
    subject.memory.restore()
    fresh = subject.logits(y)
    changes = [
        (largest_change(first, again, yardstick), x, ((), (x, z, y))),
        (largest_change(fresh, second, yardstick), y, ((), (x, z))),
    ]
    found, ids, pasts = max(changes, key=lambda change: change[0].excess)
    return _Comparison(found, ids, pasts)


def _by_contents(subject: Subject, x: Tensor, y: Tensor, _: int | None, yardstick: Yardstick) -> _Comparison:
    """For training mode: does a call depend on which tokens were seen before it?

    On fresh copies, batch y is run once after batch x and once after y itself, which has the same shape; both must give
    the same.
    """
    subject.memory.restore()
    subject.logits(x, training=True)
    after_x = subject.logits(y, training=True)
    subject.memory.restore()
    subject.logits(y, training=True)
    after_y = subject.logits(y, training=True)
    return _Comparison(largest_change(after_x, after_y, yardstick), y, ((x,), (y,)))


def _located(
    subject: Subject, finding: Finding, compared: _Comparison, yardstick: Yardstick, training: bool
) -> Finding:
    ids, (one, two) = compared.ids, compared.pasts

    def go_through(past: Sequence[Tensor]) -> None:
        subject.memory.restore()
        for part in past:
            subject.logits(part, training)

    go_through(one)
    tracer, blames = trace(
        subject,
        everything,
        yardstick.unit,
        lambda: subject.logits(ids, training),
        lambda: subject.logits(ids, training),
        between=lambda: go_through(two),
    )
    event = f"after {'other tokens' if training else f'{len(two)} other calls'}"
    finding = placed(finding, tracer, blames, event)
    go_through(())
    before = Contents(subject.model)
    subject.logits(ids, training)
    return remembered(finding, subject.model, before, f"{subject.name}: its output moves {event}")
