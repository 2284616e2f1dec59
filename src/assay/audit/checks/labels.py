"""Labels: what a model is given to compute its loss moves no logit, under whatever name, in either mode.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from assay.audit.blame.where import placed, trace_over_time
from assay.audit.calling.labels import Labels, is_cross_entropy, labels_of, parts_of, shifted_by_caller
from assay.audit.probing.evidence import Change, finding_of, largest_change
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, measured_on
from assay.audit.subject.draws import held
from assay.audit.subject.subject import RaisedError, Subject
from assay.records import Finding

TOKENS = 67
CUTS = (0, 1, 15, 16, 31, 32, 63, 65)
"""Places from which on labels are changed, a row for each."""


def labels(subject: Subject, search: Search, yardstick: Yardstick, training: bool = False) -> Iterator[Finding]:
    """One finding for each argument that takes labels; none where `forward` has no such argument.

    The labels are next tokens. A label may be read after its place, where it is a token of the past, as decoders do
    whose input is made of labels; it must not move a logit at its place or before. Only valid labels are given: models
    may leave out places whose label says so.
    """
    if search.longest < 2:
        return
    for way in labels_of(subject.model, subject.callings[False].targets):
        subject.steady = held if subject.draws(training, dropout=False) else None
        try:
            finding = _Trial(subject, search, yardstick, training, way).finding()
        except RaisedError as error:
            words = f"with {way.places()} the model raised {error}"
            finding = Finding(check="labels", status="skip", explanation=words) if way.certain else None
        finally:
            subject.steady = None
        if finding is not None:
            yield finding


class _Trial:
    """Calls of a model with labels under one name. `cuts` [B] are the places from which on each row is changed."""

    def __init__(self, subject: Subject, search: Search, yardstick: Yardstick, training: bool, way: Labels) -> None:
        self.subject = subject
        self.yardstick = yardstick
        self.training = training
        self.way = way
        length = min(TOKENS if not search.brief else search.middle, search.longest)
        length = subject.takes.fit(length)
        cuts = [cut for cut in CUTS if cut < length] if not search.brief else [0, length // 2, length - 2]
        self.cuts = torch.tensor(sorted({max(0, cut) for cut in cuts}))
        generator = torch.Generator().manual_seed(search.seed + 12)
        V, special = subject.vocab_size, set(subject.special_ids)
        plain = torch.tensor([i for i in range(min(V, 4096)) if i not in special] or list(range(V)))
        shape = (len(self.cuts), length)
        self.ids, others = (plain[torch.randint(len(plain), shape, generator=generator)] for _ in range(2))
        self.labels = shifted_by_caller(self.ids)
        differ = torch.where(others == self.labels, others.roll(1, 1), others)
        self.kept = torch.arange(length) <= self.cuts[:, None]
        self.other_labels = torch.where(torch.arange(length) < self.cuts[:, None], self.labels, differ)
        self.other_ids = torch.where(self.kept, self.ids, others)
        self.loss: Tensor | None = None

    def finding(self) -> Finding | None:
        """The finding; None where the model does nothing with such labels that could be seen."""
        found = self._logits(self.ids, self.labels)
        if found is None and self.loss is None:
            return None
        name = self.way.places()
        if found is None:
            words = f"with {name} no logits are returned, so what its loss reads is told by its numbers alone"
            return Finding(check="labels", status="pass", explanation=words)
        of_labels = is_cross_entropy(self.loss, found, self.labels.to(found.device))
        change = self._moved(found, self.ids, self.other_labels)
        if change.excess > 1:
            words = f"logits move when {name} change, which are what they have to predict"
            if of_labels:
                words += "; the loss is the cross-entropy of these very logits, a score that has seen its labels"
            return self._located(self._said(change, words), change, self.ids, self.other_labels, f"{name} change")
        if self._same_as_without(found):
            used = self.way.certain or self.loss is not None
            return self._said(change, f"{name} move no logit") if used else None
        change = self._moved(found, self.other_ids, self.labels)
        words = f"with {name} given, logits move when later tokens are replaced"
        if change.excess > 1:
            return self._located(self._said(change, words), change, self.other_ids, self.labels, "later tokens change")
        return self._said(change, f"{name} move no logit, though logits are others without them")

    def _logits(self, ids: Tensor, labels: Tensor) -> Tensor | None:
        """The logits [B, T, W] that come with labels, and into `loss` the loss."""
        subject = self.subject
        parts = []
        for rows in range(len(ids)) if subject.alone else [slice(None)]:
            some, theirs = (torch.atleast_2d(each[rows]).to(subject.device) for each in (ids, labels))
            with subject.running(self.training, dropout=False, gradients=self.training) as model:
                logits, self.loss = parts_of(self.way.call(model, some, theirs), some, subject.outputs)
            if logits is None:
                return None
            parts.append(logits.detach())
        return torch.cat(parts)

    def _moved(self, before: Tensor, ids: Tensor, labels: Tensor) -> Change:
        after = self._logits(ids, labels)
        assert after is not None
        after = torch.where(self.kept[..., None].to(after.device), after, before)
        change = largest_change(before, after, self.yardstick)
        if change.excess > 1:
            self.yardstick = measured_on(self.subject, self.yardstick, self.ids)
            change = largest_change(before, after, self.yardstick)
        return change

    def _same_as_without(self, found: Tensor) -> bool:
        """Whether the same logits come without labels. Of a model that needs them, they come with next tokens."""
        try:
            without = self.subject.logits(self.ids, self.training, dropout=False)
        except RaisedError:
            return False
        return largest_change(without, found.to(without.device), self.yardstick).excess <= 1

    def _said(self, change: Change, words: str) -> Finding:
        return finding_of("labels", change, self.yardstick, words, words)

    def _located(self, finding: Finding, change: Change, ids: Tensor, labels: Tensor, event: str) -> Finding:
        """The finding with the modules to blame for the row that moved most."""
        row = slice(change.comparison, change.comparison + 1)
        cut = int(self.cuts[change.comparison])

        def run(some: Tensor) -> None:
            self._logits(some, self.labels[row, : some.shape[1]])

        def second() -> None:
            self._logits(ids[row], labels[row])

        tracer, blames = trace_over_time(self.subject, cut + 1, self.yardstick.unit, self.ids[row], run, second)
        located = placed(finding, tracer, blames, f"when {event} from place {cut} on")
        if located.where:
            return located
        return located.model_copy(update={"where": f"{self.subject.name} itself: its output moves when {event}"})
