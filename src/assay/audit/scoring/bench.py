"""Runs a model and its score (a loss or log probability) on the same ids, with logits as they are or made larger.

Shapes: B rows, T tokens, V vocabulary, W width of the logits.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.audit.scoring.scorers import ScoreError, Scorer
from assay.audit.subject.differences import change, spread
from assay.audit.subject.subject import RaisedError, Subject

CLOSE = 1e-6
"""Differences of nats, or of probabilities, up to this count as none, where the arithmetic is that of float64."""
COARSEST = 0.05
"""The largest difference that may count as none, however coarsely the model rounds."""
ELEMENTS_AT_ONCE = 1 << 22
TOKENS, MANY_TOKENS = 1 << 12, 1 << 15
"""Values of `Bench.tokens`: many where there are few ids, and the model is small or need not be run for each."""


class Bench:
    """A subject and its scorer. `each` says whether the score gives one number per token rather than one in all.

    `slack` is the difference that counts as none: in nats up to one nat, above that relative to them. `tokens` are the
    most that may be scored to try all candidates of one place.
    """

    def __init__(self, subject: Subject, scorer: Scorer) -> None:
        self.subject = subject
        self.scorer = scorer
        self.slack = CLOSE
        self.each = False
        self.tokens = TOKENS

    def fit(self, length: int) -> int:
        """The largest length up to `length` that the model takes, or the smallest it takes if that is longer."""
        return self.subject.takes.fit(length)

    def logits(self, ids: Tensor) -> Tensor:
        """Logits [B, T, W] in float64, in eval mode."""
        return self.subject.logits(ids, dropout=False).double().to(ids.device)

    def nats(self, ids: Tensor) -> Tensor:
        """The score of all rows together: [] or [B, T - 1] nats."""
        with self._scoring(ids), self.subject.running(dropout=False) as model:
            return self.scorer.nats(model, ids, self.subject.called(ids) if self.scorer.on_logits else None)

    def nats_of_rows(self, ids: Tensor, logits: Tensor | None = None) -> list[Tensor]:
        """The score of each row on its own: one number [1] or [T - 1] nats each.

        `logits` [1, T, W], if given, are those of every row, which may differ in the last token alone.
        """
        at_once = max(1, ELEMENTS_AT_ONCE // (ids.shape[1] * self.subject.outputs))
        found: list[Tensor] = []
        for part in ids.split(at_once):
            if self.each and logits is None:
                found += self.nats(part).reshape(len(part), -1)
                continue
            own = self.subject.logits(part, dropout=False) if self.scorer.on_logits and logits is None else logits
            with self._scoring(ids[:1]), self.subject.running(dropout=False) as model:
                for number, row in enumerate(part.split(1)):
                    one = own if own is None or len(own) == 1 else own[number : number + 1]
                    found.append(self.scorer.nats(model, row, one).flatten())
        return found

    def totals_of_prefixes(self, row: Tensor, lengths: Sequence[int], reduction: str) -> Tensor:
        """The nats [len(lengths)] of the first tokens of `row` [T], summed over tokens but the first."""
        logits = self.subject.logits(row[None], dropout=False) if self.scorer.on_logits else None
        sums = []
        for length in lengths:
            nats = self.nats_of_rows(row[None, :length], None if logits is None else logits[:, :length])[0]
            sums.append(nats.sum() * (length - 1 if reduction == "mean" and not self.each else 1))
        return torch.stack(sums)

    @contextmanager
    def _scoring(self, ids: Tensor) -> Iterator[None]:
        """Inside the block, an exception of the score becomes a ScoreError that says what went wrong."""
        try:
            yield
        except RaisedError as error:
            if isinstance(error.__cause__, ScoreError):
                raise error.__cause__ from None
            raise ScoreError(f"raised {error} on ids {list(ids.shape)}") from error

    def settle(self, ids: Tensor) -> None:
        """Widen `slack` for a model that rounds more coarsely than float64, by what leaving a token out changes."""
        subject, less = self.subject, self.subject.takes.shorter(ids.shape[1])
        if less is not None and (subject.narrow_seen or not subject.wide):
            whole, alone = self.logits(ids)[:1, :less], self.logits(ids[:1, :less])
            noise = change(whole, alone).amax().item()
            self.slack = min(max(CLOSE, 20 * noise, 8 * torch.finfo(subject.own_type).eps), COARSEST)

    @contextmanager
    def sized(self, size: float | None) -> Iterator[None]:
        """Inside the block the weights are changed so that the logits' spread is about `size` (None: left as it is).

        Embedding tables and heads, known by an axis as long as the logits, are drawn anew; where there are none, all
        weights are scaled. Where no finite spread comes of it, the weights stay as they were.
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
        """Scale the parameters so that the logits' spread is `size`, if it is linear in them; whether it is finite."""
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
