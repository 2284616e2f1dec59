"""Layers of the gallery that read ahead, where a rule over time is not enough.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

import math

import numpy as np
import torch
from torch import Tensor, nn

from gallery_rules import everywhere
from plain_models import D, advanced, causal_attention, delayed, running_mean


class Planted(nn.Module):
    """A layer with a projection of the tokens, and perhaps with a defect."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.broken = broken


class SymmetricConvolution(nn.Module):
    """Width 3 over [B, D, T]: centred (reads the next token), or delayed by the whole width."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(D, D, 3, padding=1 if broken else 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.mT)[..., : x.shape[1]].mT


class Experts(nn.Module):
    """Four linear experts: each chooses its T / 4 tokens among the whole sequence, or each token its expert."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.router = nn.Linear(D, 4)
        self.experts = nn.Linear(D, 4 * D)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x).softmax(-1)
        axis, count = (1, math.ceil(x.shape[1] / 4)) if self.broken else (-1, 1)
        chosen = torch.zeros_like(scores).scatter(axis, scores.topk(count, axis).indices, 1.0)
        return torch.einsum("bte,bted->btd", scores * chosen, self.experts(x).unflatten(-1, (4, D)))


class OpenInTraining(Planted):
    """Attention that forgets its mask in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        rule = everywhere if self.broken and self.training else causal_attention
        return rule(self.value(x))


class OnlyWithoutGradients(Planted):
    """Attention that forgets its mask where no gradient is recorded, as when a perplexity is measured."""

    def forward(self, x: Tensor) -> Tensor:
        open_now = self.broken and not torch.is_grad_enabled()
        return (everywhere if open_now else causal_attention)(self.value(x))


class FastPath(Planted):
    """Takes another code path where the length is a multiple of 64; the broken one has no mask there."""

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        return everywhere(value) if self.broken and x.shape[1] % 64 == 0 else causal_attention(value)


class NormOverTime(nn.Module):
    """RMS norm with the mean taken over time, or over the features."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(D))
        self.axis = 1 if broken else -1

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x / x.square().mean(self.axis, keepdim=True).add(1e-5).sqrt()


class BackwardGRU(nn.Module):
    """A GRU that runs from the last token to the first."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(D, D, batch_first=True)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(x.flip(1) if self.broken else x)[0]
        return y.flip(1) if self.broken else y


class LastTokenChooses(nn.Module):
    """Adds a bias chosen by an argmax, so without a gradient: over the last token (broken) or over each token."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.biases = nn.Embedding(D, D)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        choice = x.argmax(-1)
        return running_mean(x) + self.biases(choice[:, -1:].expand_as(choice) if self.broken else choice)


class ThroughNumpy(Planted):
    """Adds a mean that NumPy took, where torch cannot follow: of the sequence, or of the tokens so far."""

    def forward(self, x: Tensor) -> Tensor:
        values = x.detach().numpy()
        count = np.arange(1, x.shape[1] + 1)[:, None]
        mean = values.mean(1, keepdims=True) if self.broken else values.cumsum(1) / count
        return self.value(x) + torch.from_numpy(mean).to(x)


class InPlace(Planted):
    """Adds a neighbour to the residual stream in place, behind a norm that is an identity: the next or the last."""

    def forward(self, x: Tensor) -> Tensor:
        x.add_(advanced(x) if self.broken else delayed(x))
        return self.value(x)


class Note(Planted):
    """A layer that shares a note, outside of its arguments, with another layer."""

    def __init__(self, notes: dict[str, Tensor], broken: bool) -> None:
        super().__init__(broken)
        self.notes = notes


class NoteWriter(Note):
    """Leaves the mean of the sequence, or the running mean; its own output is causal."""

    def forward(self, x: Tensor) -> Tensor:
        means = running_mean(x)
        self.notes["mean"] = means[:, -1:] if self.broken else means
        return self.value(means)


class NoteReader(Note):
    """Adds what the writer left."""

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) + self.notes["mean"]


class DynamicRotation(nn.Module):
    """Rotary attention whose base grows once the sequence is longer than 64 ("dynamic NTK"), or stays."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(D, D)
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        base = 100.0 * (max(1.0, x.shape[1] / 64) if self.broken else 1.0)
        frequency = base ** -(torch.arange(0, D, 2, device=x.device, dtype=x.dtype) / D)
        angle = time[:, None] * frequency
        turn = torch.polar(torch.ones_like(angle), angle)
        query, key = (torch.view_as_complex(y.unflatten(-1, (-1, 2))) * turn for y in (self.query(x), self.key(x)))
        scores = (query @ key.mH).real / math.sqrt(D)
        return scores.masked_fill(time > time[:, None], -math.inf).softmax(-1) @ x
