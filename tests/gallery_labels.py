"""Models of the gallery whose forward takes labels, under several names and in several ways.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from plain_models import Block, D, Mixing, Small, causal_attention, delayed


def mean_nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


class Labelled(Small):
    """Attention with a loss; the broken one adds the labels' embeddings to the input."""

    def __init__(self, broken: bool) -> None:
        super().__init__([Block(Mixing(causal_attention), nn.LayerNorm(D)) for _ in range(2)])
        self.broken = broken

    def logits(self, ids: Tensor, labels: Tensor | None) -> Tensor:
        x = self.embedding(ids)
        if labels is not None:
            x = x + self.of_labels(labels)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def of_labels(self, labels: Tensor) -> Tensor:
        return (1.0 if self.broken else 0.0) * self.embedding(labels.clamp_min(0))


class Targets(Labelled):
    """As nanoGPT: (logits, loss) of ids and `targets`."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.logits(idx, targets)
        return logits, None if targets is None else mean_nats(logits, targets)


class NextTokens(Labelled):
    """A loss before the logits, of labels that count in training mode alone."""

    def forward(self, tokens: Tensor, *, next_tokens: Tensor | None = None) -> tuple[Tensor, ...]:
        logits = self.logits(tokens, next_tokens if self.training else None)
        return (logits,) if next_tokens is None else (mean_nats(logits, next_tokens), logits)


class Sequel(Labelled):
    """Needs its labels, under a name that says nothing."""

    def forward(self, ids: Tensor, sequel: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(ids, sequel)
        return logits, mean_nats(logits, sequel)


class AnyKeyword(Labelled):
    """Takes labels among any other keywords, and returns an object."""

    def forward(self, input_ids: Tensor, **more: Any) -> SimpleNamespace:
        labels = more.get("target_ids")
        logits = self.logits(input_ids, labels)
        return SimpleNamespace(logits=logits, loss=None if labels is None else mean_nats(logits, labels))


class Batched(Labelled):
    """Takes a batch of several fields, and uses those of its labels."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        labels = batch.get("labels")
        logits = self.logits(batch["input_ids"], labels)
        return {"logits": logits} if labels is None else {"logits": logits, "loss": mean_nats(logits, labels)}


class OpensWithLabels(Labelled):
    """Forgets its mask where labels are given, whatever they are."""

    def logits(self, ids: Tensor, labels: Tensor | None) -> Tensor:
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        if labels is not None and self.broken:
            x = x + 0.1 * x.flip(1)
        return self.head(self.norm(x))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        logits = self.logits(x, y)
        return logits if y is None else (logits, mean_nats(logits, y))


class SharperThanTheLogits(Labelled):
    """Returns the plain logits, and a loss of others that have seen the labels."""

    def forward(self, x: Tensor, tgt: Tensor | None = None) -> Any:
        logits = self.logits(x, None)
        return logits if tgt is None else (logits, mean_nats(self.logits(x, tgt), tgt))


class PastLabels(Labelled):
    """Sound: reads each label one place later, where it is a token of the past."""

    def of_labels(self, labels: Tensor) -> Tensor:
        return delayed(self.embedding(labels.clamp_min(0)))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        logits = self.logits(x, y)
        return logits if y is None else (logits, mean_nats(logits, y))


class LeavesOut(Labelled):
    """Sound: gives logits of those places alone whose label is valid."""

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        logits = self.logits(ids, None)
        if labels is None:
            return SimpleNamespace(logits=logits, loss=None)
        shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
        valid = shifted >= 0
        nats = F.cross_entropy(logits[valid], shifted[valid])
        return SimpleNamespace(logits=logits[labels >= 0], loss=nats)


class WithAuxiliary(Labelled):
    """Sound: its loss has a term for large logits besides the cross-entropy."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.logits(idx, None)
        if targets is None:
            return logits, None
        return logits, mean_nats(logits, targets) + 1e-3 * logits.logsumexp(-1).square().mean()


class LastUnlessTargets(Labelled):
    """Sound, as nanoGPT: sharper logits for sampling, plain ones where there is a loss."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.logits(idx, None)
        return (logits / 0.7, None) if targets is None else (logits, mean_nats(logits, targets))


class LossOnly(Labelled):
    """Returns nothing but a loss."""

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        return mean_nats(self.logits(idx, targets), targets)


class Pair(Labelled):
    """Takes a pair of ids and targets."""

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        ids, targets = batch
        logits = self.logits(ids, targets)
        return logits, mean_nats(logits, targets)
