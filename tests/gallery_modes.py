"""Layers of the gallery that cheat in a batch of one size, at one length, in training mode, or through their draws.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

from typing import ClassVar

import torch
from torch import Tensor, nn

from gallery_layers import Planted
from plain_models import MAX_TOKENS, D, advanced, causal_attention


class InBatchesOf(Planted):
    """Adds the row before, in batches of one size alone."""

    def __init__(self, broken: bool, size: int) -> None:
        super().__init__(broken)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        return causal_attention(x) + (x.roll(1, 0) if self.broken and x.shape[0] == self.size else 0 * x)


class AtOneLength(Planted):
    """Adds the token after, where there are so many tokens and no other number of them."""

    def __init__(self, broken: bool, length: int) -> None:
        super().__init__(broken)
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        return causal_attention(x) + (advanced(x) if self.broken and x.shape[1] == self.length else 0 * x)


class OnlyWithGradients(Planted):
    """Reads one token ahead in training mode, where gradients are taken."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        ahead = self.broken and self.training and torch.is_grad_enabled()
        return causal_attention(x) + (advanced(x) if ahead else 0 * x)


class MeanOfTokensInTraining(Planted):
    """In training mode adds a running mean of all tokens that it has ever seen, or of its own parameters."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.register_buffer("mean", torch.zeros(D))
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y = causal_attention(self.value(x)) + self.mean
        if self.training and self.broken:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 1))
        return y


class MemoryOfTheClass(Planted):
    """Adds the mean of the call before, which the class remembers, so that no copy of the model forgets it."""

    remembered: ClassVar[list[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        y = causal_attention(self.value(x))
        self.remembered.append(x.detach().mean((0, 1)))
        return y + (self.remembered[-2] if self.broken and len(self.remembered) > 1 else 0 * y)


class DropsByTheWhole(Planted):
    """In training mode drops tokens with a probability that it reads off the whole sequence, or off each token."""

    def forward(self, x: Tensor) -> Tensor:
        y = causal_attention(self.value(x))
        if not self.training:
            return y
        score = x[..., :4].mean(-1, keepdim=True)
        keep = (5 * (score.mean(1, keepdim=True) if self.broken else score)).sigmoid()
        return y * (torch.rand(*y.shape[:2], 1, dtype=y.dtype) < keep)


class TrainedMask(nn.Module):
    """Averages what a mask lets through, a parameter that training opens; the twin keeps it shut by other means too."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.mask = nn.Parameter(torch.ones(MAX_TOKENS, MAX_TOKENS).tril() / torch.arange(1, MAX_TOKENS + 1)[:, None])
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        mask = self.mask[:T, :T]
        return (mask if self.broken else mask.tril()) @ self.value(x)


class OnceInvalid(Planted):
    """Divides by a scale that is zero."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.register_buffer("scale", torch.full((), 0.0 if broken else 1.0))
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return causal_attention(self.value(x)) * 0.0 / self.scale if self.broken else causal_attention(self.value(x))


class CountOfAnId(nn.Embedding):
    """An embedding that adds how often id 0 stands in the sequence, or has stood so far."""

    def __init__(self, broken: bool, ids: int) -> None:
        super().__init__(ids, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        zeros = (ids == 0).to(self.weight.dtype)
        count = zeros.sum(1, keepdim=True).expand_as(ids) if self.broken else zeros.cumsum(1)
        return super().forward(ids) + 0.1 * count[..., None] * self.weight[3]


class InNarrowNumbers(Planted):
    """Attention whose fast path, for numbers narrower than float64, forgets its mask."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        masked = not self.broken or x.dtype is torch.float64
        return nn.functional.scaled_dot_product_attention(x, x, x, is_causal=masked)


class BehindAShutGate(Planted):
    """Adds the mean of the sequence, or of what came before, through a gate that starts shut for good."""

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.gate = nn.Parameter(torch.full((D,), -30.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        past = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return causal_attention(x) + self.gate.sigmoid() * (x.mean(1, keepdim=True) if self.broken else past)
