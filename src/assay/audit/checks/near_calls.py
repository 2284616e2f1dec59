"""Isolation of calls whose rows agree in part: a memory keyed by a part of a row takes one for the other.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from assay.audit.blame.attributes import Contents, remembered
from assay.audit.blame.pairing import everything
from assay.audit.blame.where import placed, trace
from assay.audit.checks.balancing import balanced_by
from assay.audit.checks.calls import BALANCED
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.near_rows import CROWD, Link, chains, likenesses
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

Case = tuple[list[Tensor], list[Tensor], Tensor, str]
"""Two pasts (the calls made before on a fresh copy), the ids of the call, and what it shares with the one before."""


def near_calls(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Finding:
    """A call gives what it gives on a fresh copy although calls went before that agree with it in part of their rows.

    In training mode, where a layer may count its calls, it is compared with a call after as many calls on itself. The
    ids of one shape stand in the same storage, which each call overwrites.
    """
    restores, subject.restores = subject.restores, False
    subject.keeps_changes = True
    compared = _in_training if training else _in_eval
    try:
        largest: tuple[Change, Case] | None = None
        for found, case in compared(subject, search, yardstick):
            if found.excess > 1:
                yardstick = measured_on(subject, yardstick, case[2])
                found = _again(subject, case, yardstick, training)
            if largest is None or found.excess > largest[0].excess:
                largest = found, case
            if found.excess > 1:
                break
        if largest is None:
            return Finding(check="isolation", status="skip", explanation="one token is all that the model takes")
        found, case = largest
        passed = "calls that agree with the one before in part do not move"
        words = f"a call gives other logits after one that has in common with it {case[3]}"
        finding = finding_of("isolation", found, yardstick, passed, words)
        if finding.status == "fail":
            finding = _balanced(subject, finding, case, yardstick, training) or _located(
                subject, finding, case, yardstick, training
            )
    finally:
        subject.restores, subject.keeps_changes = restores, False
        subject.memory.restore()
    return finding


def _balanced(subject: Subject, finding: Finding, case: Case, yardstick: Yardstick, training: bool) -> Finding | None:
    """A warning where what moves the call is a bias that balances loads by counts, as `calls` warns; else None."""
    for earlier in case[0] if training else ():
        balanced = balanced_by(subject, earlier, case[2], yardstick)
        if balanced is not None:
            words = BALANCED.format(name=balanced[0], nudge=balanced[1])
            return finding.model_copy(update={"status": "warn", "explanation": words})
    return None


class _Overwriting:
    """Runs calls whose ids of one shape stand in one storage."""

    def __init__(self, subject: Subject, training: bool) -> None:
        self._subject, self._training = subject, training
        self._storage: dict[torch.Size, Tensor] = {}

    def __call__(self, ids: Tensor) -> Tensor:
        return self._subject.one_call(self._placed(ids), self._training).clone()

    def in_turn(self, calls: Sequence[Tensor]) -> list[Tensor]:
        """The logits of each call on a fresh copy after those before it."""
        self._subject.memory.restore()
        if self._training or self._subject.draws(False):  # every call is to draw the same numbers
            return [self(ids) for ids in calls]
        with self._subject.running():
            return [self._subject.called(self._placed(ids)).clone() for ids in calls]

    def _placed(self, ids: Tensor) -> Tensor:
        device = self._subject.device
        place = self._storage.setdefault(ids.shape, torch.empty(ids.shape, dtype=ids.dtype, device=device))
        return place.copy_(ids)

    def after(self, past: Sequence[Tensor], ids: Tensor) -> Tensor:
        """The logits of `ids` on a fresh copy after the calls of `past`."""
        return self.in_turn([*past, ids])[-1]


def _in_eval(subject: Subject, search: Search, yardstick: Yardstick) -> Iterator[tuple[Change, Case]]:
    """Each call of a chain but the first, against its rows run on a fresh copy.

    There the last call's rows come first in one batch: a memory that serves the first of its kind then serves others.
    """
    tried: list[tuple[list[Link], list[Tensor]]] = []
    for chain in chains(search, subject.vocab_size, subject.takes.fit):
        try:
            tried.append((chain, _Overwriting(subject, False).in_turn([link.ids for link in chain])))
        except RaisedError:
            if len(chain[0].ids) == CROWD:  # more rows than a model may take
                continue
            raise
    fresh = iter(_fresh(subject, [link.ids for chain, _ in tried for link in chain[1:]]))
    for chain, in_turn in tried:
        for place, link in list(enumerate(chain))[1:]:
            case: Case = [earlier.ids for earlier in chain[:place]], [], link.ids, link.common
            yield largest_change(next(fresh), in_turn[place], yardstick), case


def _fresh(subject: Subject, calls: Sequence[Tensor]) -> list[Tensor]:
    """The logits [B, T, V] of each call on a fresh copy; those of one length together, the last of them first."""
    logits: dict[int, Tensor] = {}
    for length in dict.fromkeys(ids.shape[1] for ids in calls):
        places = [place for place, ids in enumerate(calls) if ids.shape[1] == length]
        for group in [[place] for place in places] if subject.draws(False) else [places[::-1]]:
            subject.memory.restore()
            together = subject.logits(torch.cat([calls[place] for place in group]))
            logits |= zip(group, together.split([len(calls[place]) for place in group]), strict=True)
    return [logits[place] for place in range(len(calls))]


def _in_training(subject: Subject, search: Search, yardstick: Yardstick) -> Iterator[tuple[Change, Case]]:
    """A call after some that resemble it, the next the most, against the same call after as many like itself."""
    run = _Overwriting(subject, True)
    *links, (ids, _) = likenesses(search, subject.vocab_size)
    case = [link.ids for link in links], [ids] * len(links), ids, f"{links[-1].common}, or less"
    yield largest_change(run.after(case[1], ids), run.after(case[0], ids), yardstick), case


def _again(subject: Subject, case: Case, yardstick: Yardstick, training: bool) -> Change:
    run = _Overwriting(subject, training)
    return largest_change(run.after(case[1], case[2]), run.after(case[0], case[2]), yardstick)


def _located(subject: Subject, finding: Finding, case: Case, yardstick: Yardstick, training: bool) -> Finding:
    past, other, ids, common = case
    run = _Overwriting(subject, training)

    def go_through(calls: Sequence[Tensor]) -> Callable[[], None]:
        def go() -> None:
            subject.memory.restore()
            for earlier in calls:
                run(earlier)

        return go

    go_through(other)()
    tracer, blames = trace(
        subject, everything, yardstick.unit, lambda: run(ids), lambda: run(ids), between=go_through(past)
    )
    finding = placed(finding, tracer, blames, f"after a call that shares {common}")
    subject.memory.restore()
    before = Contents(subject.model)
    go_through(past)()
    otherwise = f"{subject.name}: its output moves after a call that shares {common}"
    return remembered(finding, subject.model, before, otherwise)
