"""Models of the gallery of a normal size, more than a million parameters, of which the audit searches fewer places.

Most parameters are in a table of token pairs, so that the models are quick all the same.
"""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery_layers import DynamicRotation, Planted
from plain_models import D, Mixing, Rule, Small, V, advanced, attention, delayed, small

PAIRS = 1 << 16


class Pairs(nn.Module):
    """An embedding of each token and of the pair that it makes with the one before.

    With `ends_of` c tokens, the last token of each chunk of c adds that of a neighbour: of the next token (broken), or
    of the one before.
    """

    def __init__(self, ends_of: int = 0, broken: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.pairs = nn.Embedding(PAIRS, D)
        self.ends_of, self.broken = ends_of, broken

    def forward(self, ids: Tensor) -> Tensor:
        before = F.pad(ids, (1, 0))[:, :-1]
        x = self.table(ids) + self.pairs((ids * 1009 + before) % PAIRS)
        if not self.ends_of:
            return x
        last = torch.arange(ids.shape[1], device=ids.device) % self.ends_of == self.ends_of - 1
        neighbour = F.pad(ids, (0, 1))[:, 1:] if self.broken else before
        return x + last[:, None] * self.table(neighbour)


def normal(mixer: nn.Module, embedding: nn.Module | None = None) -> Small:
    """Two blocks, the second with `mixer`, behind a large embedding."""
    return small(mixer, None, embedding or Pairs())


def reading(rule: Rule) -> Small:
    """A model of normal size whose second mixer follows a rule over time."""
    return normal(Mixing(rule))


def at_ends(chunk: int) -> Rule:
    """Attention whose last query of a chunk reads one token ahead."""
    return attention(lambda query, key: key <= query + (query % chunk == chunk - 1).long())


def at_beginnings(chunk: int) -> Rule:
    """Attention whose first query of a chunk, but for that of the row, reads one token ahead."""
    return attention(lambda query, key: key <= query + ((query % chunk == 0) & (query > 0)).long())


def to_ends(chunk: int) -> Rule:
    """Attention that reads to the end of a chunk."""
    return attention(lambda query, key: key // chunk <= query // chunk)


class CapacityByLength(nn.Module):
    """Four experts that take three quarters of a row each at most, in order; the others pass. The twin's take all.

    A row of random ids fits. One id on and on does not, and where it overflows follows from the length.
    """

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.router = nn.Linear(D, 4)
        self.experts = nn.Linear(D, 4 * D)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        chosen = F.one_hot(self.router(x).argmax(-1), 4)
        room = x.shape[1] * 3 // 4 if self.broken else x.shape[1]
        taken = (chosen * (chosen.cumsum(1) <= room)).to(x.dtype)
        return torch.einsum("bte,bted->btd", taken, self.experts(x).unflatten(-1, (4, D)))


class AheadAtLineFeeds(nn.Embedding):
    """An embedding that adds the next token's, or the one before's, at every line feed (id 10)."""

    def __init__(self, broken: bool) -> None:
        super().__init__(V, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        x = super().forward(ids)
        return x + (ids == 10)[..., None] * (advanced(x) if self.broken else delayed(x))


class ToTheSeparator(Planted):
    """Adds how far off the next separator is (id 2), or the last one."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.ids = nn.Embedding(V, D)

    def forward(self, ids: Tensor) -> Tensor:
        here = (ids == 2).to(self.ids.weight.dtype)
        past = here.cumsum(1)
        count = past[:, -1:] - past if self.broken else past
        return self.ids(ids) + self.value.weight[0] * torch.tanh(count / 4)[..., None]


class DeclaresItsLength(Small):
    """Declares 64 tokens and takes more: its rotation's base then grows with the length ("dynamic NTK"), or stays."""

    def __init__(self, broken: bool) -> None:
        plain = small(DynamicRotation(broken))
        super().__init__(plain.blocks, plain.embedding)
        self.max_position_embeddings = 64
