"""The audit that `compare` runs before and after training: the deciding checks at few positions, in about a second."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from assay.audit.checks.causality import by_replacement, causality
from assay.audit.checks.length import length
from assay.audit.checks.modes import modes
from assay.audit.checks.parity import parity
from assay.audit.checks.rows import rows
from assay.audit.full import report_on
from assay.audit.probing.search import Search, clear_of, widths_of
from assay.audit.probing.yardstick import yardstick
from assay.audit.report import AuditReport
from assay.audit.subject.borrowing import borrowed
from assay.audit.subject.second_weights import add_redrawn
from assay.audit.subject.subject import Subject
from assay.records import Finding

LONGEST, LONGEST_TRAINED = 126, 78
"""The most tokens searched: nearly two chunks of 64, and for trained weights one chunk and a part of the next."""


def quick_audit(model: nn.Module, trained: bool = False, max_length: int | None = None, seed: int = 0) -> AuditReport:
    """As `audit`, at few positions around multiples of 16 to 64, up to `max_length` tokens and 126 at most.

    Weights before training are redrawn, as weights that are zero hide leaks. Trained weights are taken as they are, and
    only checked along the sequence, in eval mode. Leaks that need rare contents or other positions are left to `audit`.
    """
    longest = LONGEST_TRAINED if trained else LONGEST
    with borrowed(model, None, (), max_length, longest, measured=not trained) as subject:
        search = _search(subject.longest, widths_of(subject.model), seed, trained)
        if not trained:
            add_redrawn(subject, seed)
            subject.use("redrawn")
            return report_on(subject, search, list(_all(subject, search)), ("redrawn",))
        return report_on(subject, search, list(_over_time(subject, search)), ("given",), ("eval",))


def _over_time(subject: Subject, search: Search) -> Iterator[Finding]:
    stick = yardstick(subject, search)
    if not stick.finite:
        yield Finding(check="causality", status="skip", explanation="no logit is finite")
        return
    yield by_replacement(subject, search, stick)
    yield length(subject, search, stick)


def _all(subject: Subject, search: Search) -> Iterator[Finding]:
    stick = yardstick(subject, search)
    between_rows = rows(subject, search, stick)
    subject.alone |= between_rows.status == "fail"
    yield between_rows
    for training in (False, True):
        yield causality(subject, search, stick, training)
    yield length(subject, search, stick)
    yield parity(subject, replace(search, longest=search.content), stick)
    yield modes(subject, stick)


def _search(longest: int, widths: frozenset[int], seed: int, trained: bool) -> Search:
    """The search within `longest` tokens, at its middle at least.

    For trained weights it has fewer positions, as the same model was searched before training.
    """
    longest = clear_of(longest, widths)

    def inside(*places: int) -> tuple[int, ...]:
        return tuple(place for place in places if place < longest - 1) or ((longest - 1) // 2,)

    return Search(
        longest=longest,
        middle=clear_of(min(longest, 19), widths),
        short=1 if trained else clear_of(min(longest, 19), widths),
        content=1 if trained else clear_of(min(longest, 11), widths),
        cuts=inside(16, 63) if trained else inside(16, 64, 100),
        training_cuts=inside(64),
        gradient_cuts=(),
        lengths=inside(64) if trained else inside(17, 64),
        batches=(2,),
        seed=seed,
        brief=True,
    )
