"""A model and its score side by side on the same ids, with its logits as they are, or large, or spread anew.

Shapes: B rows, T tokens, V vocabulary, W width of the logits.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.audit.scoring.scorers import ScoreError, Scorer
from assay.audit.subject.differences import change, spread
from assay.audit.subject.subject import RaisedError, Subject

CLOSE = 1e-6
"""Nats, and shares of probability, that count as equal where the arithmetic is that of float64."""
COARSEST = 0.05
"""And at most, whatever rounding is: a score that is right to no better than that says nothing."""
ELEMENTS_AT_ONCE = 1 << 22


class Bench:
    """`slack` is what counts as equal, in nats, relative to them above one; `each`: the score gives one a token."""

    def __init__(self, subject: Subject, scorer: Scorer) -> None:
        self.subject = subject
        self.scorer = scorer
        self.slack = CLOSE
        self.each = False

    def fit(self, length: int) -> int:
        """The nearest length up to `length` that the model takes; a few tokens at least, where it takes them."""
        multiple = self.subject.multiple
        return max(min(length, self.subject.longest) // multiple * multiple, multiple)

    def logits(self, ids: Tensor) -> Tensor:
        """[B, T, W] in float64."""
        return self.subject.logits(ids, dropout=False).double().to(ids.device)

    def nats(self, ids: Tensor) -> Tensor:
        """What the score gives: [] or [B, T - 1]."""
        with self._scoring(ids), self.subject.running(dropout=False) as model:
            return self.scorer.nats(model, ids)

    def nats_of_rows(self, ids: Tensor) -> list[Tensor]:
        """What the score gives each row, scored on its own: [] or [T - 1]."""
        at_once = max(1, ELEMENTS_AT_ONCE // (ids.shape[1] * self.subject.outputs))
        found: list[Tensor] = []
        for part in ids.split(at_once):
            if self.each:
                found += self.nats(part).reshape(len(part), -1)
                continue
            logits = self.subject.logits(part, dropout=False) if self.scorer.on_logits else None
            with self._scoring(ids[:1]), self.subject.running(dropout=False) as model:
                for number, row in enumerate(part.split(1)):
                    own = None if logits is None else logits[number : number + 1]
                    found.append(self.scorer.nats(model, row, own).flatten())
        return found

    @contextmanager
    def _scoring(self, ids: Tensor) -> Iterator[None]:
        """The score's own words about what went wrong."""
        try:
            yield
        except RaisedError as error:
            if isinstance(error.__cause__, ScoreError):
                raise error.__cause__ from None
            raise ScoreError(f"raised {error} on ids {list(ids.shape)}") from error

    def settle(self, ids: Tensor) -> None:
        """Widen `slack` where the model rounds more coarsely than float64: by what one token less changes."""
        subject, less = self.subject, ids.shape[1] - self.subject.multiple
        if less > 0 and (subject.narrow_seen or not subject.wide):
            whole, alone = self.logits(ids)[:1, :less], self.logits(ids[:1, :less])
            noise = change(whole, alone).amax().item()
            self.slack = min(max(CLOSE, 20 * noise, 8 * torch.finfo(subject.own_type).eps), COARSEST)

    @contextmanager
    def sized(self, size: float | None) -> Iterator[None]:
        """Inside, the logits' spread is about `size`, whatever loss is formed from them; as it was where that fails.

        The tables and heads, which have an axis as long as the logits, are drawn anew; where there are none all
        weights are scaled.
        """
        W = self.subject.outputs
        floating = [p for p in self.subject.model.parameters() if p.is_floating_point()]
        heads = [p for p in floating if p.ndim >= 2 and W in p.shape]
        kept = [(p, p.data.clone()) for p in heads or floating] if size is not None else []
        try:
            if size is not None:
                generator = torch.Generator().manual_seed(int(size))
                for parameter in heads:
                    values = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.numel() / W)
                    parameter.data.copy_(values)
                if not self._brought_to(size, [p for p, _ in kept]):
                    _put_back(kept)
            yield
        finally:
            _put_back(kept)

    def _brought_to(self, size: float, parameters: list[torch.nn.Parameter]) -> bool:
        """Scale the parameters so that the logits' spread is `size`, where they go in once; whether it is finite."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.fit(16))
        ids = torch.randint(self.subject.vocab_size, shape, generator=generator).to(self.subject.device)
        found = spread(self.logits(ids)[..., : self.subject.vocab_size])
        if not 0 < found < math.inf:
            return False
        for parameter in parameters:
            parameter.data.mul_(size / found)
        return math.isfinite(spread(self.logits(ids)))


def _put_back(kept: list[tuple[torch.nn.Parameter, Tensor]]) -> None:
    for parameter, values in kept:
        parameter.data.copy_(values)
