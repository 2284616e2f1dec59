"""Layers of the gallery that mix rows, calls or modes, or hold parameters that nothing trains.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery_layers import Planted
from plain_models import D, running_mean


class RowsForTime(nn.Module):
    """A GRU that is told that time comes first where the batch does."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(D, D, batch_first=not broken)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(x)[0]
        return y


class Capacity(nn.Module):
    """Token-choice routing with room for 12 tokens an expert, counted over the rows one after the other, or per row."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.router = nn.Linear(D, 4)
        self.experts = nn.Linear(D, 4 * D)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x).softmax(-1)
        chosen = F.one_hot(scores.argmax(-1), 4)
        queue = chosen.flatten(0, 1).cumsum(0).view_as(chosen) if self.broken else chosen.cumsum(1)
        weights = scores * chosen * (queue <= 12)
        return torch.einsum("bte,bted->btd", weights, self.experts(x).unflatten(-1, (4, D)))


class MemoryOfLastCall(Planted):
    """A running mean that continues that of the last call, if that had as many rows."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.memory: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = running_mean(self.value(x))
        if self.memory is not None and self.memory.shape[0] == x.shape[0]:
            y = y + self.memory
        if self.broken:
            self.memory = y[:, -1:].detach()
        return y


class MemoryInAClosure(Planted):
    """Adds the first token of the call before, which a function outside the module remembers."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        remembered: list[Tensor] = []

        def recall(x: Tensor) -> Tensor:
            remembered.append(x[:1, :1].detach())
            return remembered[-2] if broken and len(remembered) > 1 else torch.zeros_like(remembered[-1])

        self.recall = recall

    def forward(self, x: Tensor) -> Tensor:
        return running_mean(self.value(x)) + self.recall(x)


class CacheByShape(Planted):
    """Keeps something computed once for each shape: the mask, or (a leak between calls) the first token's values."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.cache: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        fresh = value[:, :1].detach() if self.broken else value.new_ones(D)
        return running_mean(value) + self.cache.setdefault(tuple(x.shape), fresh)


class RunningBuffer(Planted):
    """Centres on a buffer that every call moves, in evaluation too."""

    centre: Tensor

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.register_buffer("centre", torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        y = self.value(x) - self.centre
        if self.broken:
            self.centre.lerp_(x.detach().mean((0, 1)), 0.1)
        return y


class DropoutLeftOn(Planted):
    """F.dropout, whose `training` is true unless it is told otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(running_mean(self.value(x)), 0.1, training=self.broken or self.training)


class HotterInTraining(Planted):
    """Values twice as large in training mode as in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        return running_mean(2 * value if self.broken and self.training else value)


class TokensOverBatch(nn.Module):
    """Batch normalisation of [B, T, D] over rows and time; the sound one keeps to its running statistics."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(D)
        self.broken = broken

    def train(self, mode: bool = True) -> "TokensOverBatch":
        super().train(mode)
        self.norm.train(mode and self.broken)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.mT).mT


class UnusedProjection(Planted):
    """Has a projection that it never applies."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.extra = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        y = self.value(running_mean(x))
        return y if self.broken else y + self.extra(x)


class DetachedProjection(Planted):
    """Applies a projection, and cuts its gradient."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.extra = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        extra = self.extra(x)
        return self.value(running_mean(x)) + (extra.detach() if self.broken else extra)


class OwnDecay(nn.Module):
    """A decaying mean whose own initialisation spreads the decays from 0.0025 to 0.73 a step."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.decay = nn.Parameter(torch.empty(D))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.value.reset_parameters()
        with torch.no_grad():
            self.decay.copy_(torch.linspace(-6, 1, D))

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.exp(-F.softplus(self.decay))
        state = torch.zeros_like(x[:, 0])
        outputs = []
        for value in self.value(x).unbind(1):
            state = kept * state + (1 - kept) * value
            outputs.append(state)
        return torch.stack(outputs, 1)
