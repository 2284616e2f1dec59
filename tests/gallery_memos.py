"""Models of the gallery that remember calls by a part of a row, and their twins, which remember by the whole of it.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from gallery_layers import Planted
from plain_models import Block, D, Mixing, Small, causal_attention, running_mean

Key = Callable[[Tensor], Hashable]
"""What a batch of ids [B, T] is remembered by."""

WHOLE: Key = lambda ids: str(ids.tolist())  # noqa: E731
KEYS: dict[str, Key] = {
    "first-four-ids": lambda ids: str(ids[:, :4].tolist()) + str(ids.shape),
    "first-and-last-id": lambda ids: str(ids[:, [0, -1]].tolist()) + str(ids.shape),
    "all-but-the-last": lambda ids: str(ids[:, :-1].tolist()),
    "every-second-id": lambda ids: str(ids[:, ::2].tolist()) + str(ids.shape),
    "sum": lambda ids: (int(ids.sum()), tuple(ids.shape)),
    "weighted-sum": lambda ids: (int((ids * torch.arange(ids.shape[1])).sum()), tuple(ids.shape)),
    "set-of-ids": lambda ids: (str(ids.unique().tolist()), tuple(ids.shape)),
    "first-row": lambda ids: str(ids[0].tolist()) + str(ids.shape),
    "storage": lambda ids: (ids.data_ptr(), tuple(ids.shape)),
    "sum-of-squares-mod-64": lambda ids: (int((ids * ids).sum()) % 64, tuple(ids.shape)),
}


class Remembering(nn.Module):
    """Keeps the logits of each batch by a key, and serves them where the key comes again."""

    def __init__(self, key: Key, last_only: bool = False, training_only: bool = False) -> None:
        super().__init__()
        self.model = Small([Block(Mixing(causal_attention), nn.LayerNorm(D))])
        self.key, self.last_only, self.training_only = key, last_only, training_only
        self.known: dict[Hashable, Tensor] = {}

    def forward(self, ids: Tensor) -> Tensor:
        if self.training_only and not self.training:
            return self.model(ids)
        key = self.key(ids)
        if key not in self.known:
            logits = self.model(ids)
            if self.last_only:
                self.known.clear()
            self.known[key] = logits.detach()
            return logits
        return self.known[key]


class RowByRow(nn.Module):
    """Keeps the logits of each row by its first four ids, or by all of them."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.model = Small([Block(Mixing(causal_attention), nn.LayerNorm(D))])
        self.broken = broken
        self.known: dict[Hashable, Tensor] = {}

    def forward(self, ids: Tensor) -> Tensor:
        rows = []
        for row in ids:
            key = (str(row[:4].tolist()), len(row)) if self.broken else str(row.tolist())
            if key not in self.known:
                self.known[key] = self.model(row[None])[0]
            rows.append(self.known[key])
        return torch.stack(rows)


class HiddenByStart(Planted):
    """A layer that remembers the running mean by its first input, or by all of its input."""

    known: ClassVar[dict[Hashable, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        key = str(x[:, :1].tolist()) + str(x.shape) if self.broken else str(x.tolist())
        if key not in self.known:
            self.known[key] = running_mean(self.value(x)).detach()
        return self.known[key]


_LAST: dict[str, Tensor] = {}


class LastRowGlobally(Planted):
    """Adds the last output of the call before where that had the same first input; a global of the module keeps it."""

    def forward(self, x: Tensor) -> Tensor:
        y = running_mean(self.value(x))
        if self.broken and "x" in _LAST and torch.equal(_LAST["x"], x[0, 0]):
            y = y + _LAST["y"]
        _LAST["x"], _LAST["y"] = x[0, 0].detach(), y[0, -1].detach()
        return y


class CachedByLength(Planted):
    """Keeps, by the length alone, a mask in an lru_cache; a broken one keeps the first ids' scale with it."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 1 + float(x[0, 1:].mean()) if self.broken and x.shape[1] > 1 else 1.0
        return self.mask(x.shape[1]).to(x) @ self.value(x)

    @lru_cache  # noqa: B019
    def mask(self, length: int) -> Tensor:
        return self.scale * torch.ones(length, length, dtype=torch.float64).tril() / 8


class ContinuedRow(nn.Module):
    """A decaying sum that goes on from where the last call ended, if this call's row begins with the last one's.

    The broken one takes a row for such a continuation if it is longer and begins with the same id.
    """

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(61, D)
        self.head = nn.Linear(D, 61)
        self.broken = broken
        self.ids: Tensor | None = None
        self.sums: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        known, done = self.ids, 0
        if known is not None and known.shape[0] == ids.shape[0] and known.shape[1] < ids.shape[1]:
            count = 1 if self.broken else known.shape[1]
            done = known.shape[1] if torch.equal(known[:, :count], ids[:, :count]) else 0
        x = self.table(ids[:, done:])
        new = x.cumsum(1) if not done or self.sums is None else self.sums[:, -1:] + x.cumsum(1)
        sums = new if not done or self.sums is None else torch.cat([self.sums, new], 1)
        self.ids, self.sums = ids.clone(), sums.detach()
        return self.head(torch.tanh(sums / 4))
