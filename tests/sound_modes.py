"""Layers of the sound zoo that draw at random, keep odd parameters or amplify rounding, and leak nothing."""

# mypy: disable-error-code="no-any-return"

import math
import random
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm as older_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm

from plain_models import MAX_TOKENS, D, causal_attention


class TanhRecurrence(nn.Module):
    """h_t = tanh(gain h_{t-1} R + x_t): chaotic from a gain of about one on."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.recurrence = nn.Parameter(torch.randn(D, D) / math.sqrt(D))
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for token in x.unbind(1):
            state = torch.tanh(self.gain * state @ self.recurrence + token)
            states.append(state)
        return torch.stack(states, 1)


class DrawsByToken(nn.Module):
    """In training mode draws a number for some tokens and none for others, and noise for all afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        y = self.value(x)
        if self.training:
            chosen = y[..., 0] > 0
            y = y.masked_scatter(chosen[..., None], y[chosen] * (1 + torch.rand(int(chosen.sum()), 1)))
            y = y + 0.1 * torch.randn_like(y)
        return causal_attention(y)


class SpectralNorm(nn.Module):
    """A projection of spectral norm one, whose estimate is refined at every call in training mode."""

    def __init__(self, older: bool) -> None:
        super().__init__()
        self.value = (older_spectral_norm if older else spectral_norm)(nn.Linear(D, D))

    def forward(self, x: Tensor) -> Tensor:
        return causal_attention(self.value(x))


class MaskParameter(nn.Module):
    """Attention whose mask is a parameter that asks for gradients: compared with zero, or added to the scores."""

    def __init__(self, shut: Literal["compared", "-inf", "-1e9"]) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.compared = shut == "compared"
        open_ = torch.ones(MAX_TOKENS, MAX_TOKENS).tril()
        mask = open_ if self.compared else torch.zeros_like(open_).masked_fill(open_ == 0, float(shut))
        self.mask = nn.Parameter(mask)

    def forward(self, x: Tensor) -> Tensor:
        T, x = x.shape[1], self.value(x)
        scores, mask = x @ x.mT / math.sqrt(D), self.mask[:T, :T]
        scores = scores.masked_fill(mask == 0, -math.inf) if self.compared else scores + mask
        return scores.softmax(-1) @ x


class Permuted(nn.Module):
    """Reorders its channels by a parameter of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.order = nn.Parameter(torch.randperm(D), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return causal_attention(self.value(x)[..., self.order])


class GumbelRouting(nn.Module):
    """One of three experts for each token, drawn in training mode and the likeliest otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(D, 3)
        self.experts = nn.Linear(D, 3 * D)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        chosen = F.gumbel_softmax(scores, hard=True) if self.training else F.one_hot(scores.argmax(-1), 3).to(x.dtype)
        return torch.einsum("bte,bted->btd", chosen, self.experts(x).unflatten(-1, (3, D)))


class StochasticDepth(nn.Module):
    """Leaves a whole row of the batch out in training mode, with probability 0.3."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        y = causal_attention(self.value(x))
        return y * (torch.rand(x.shape[0], 1, 1) > 0.3) / 0.7 if self.training else y


class ExpertsWithDropout(nn.Module):
    """Token-choice experts, each called on its own tokens where it has any, with dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(D, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(D, D), nn.Dropout(0.3)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        flat, chosen = x.flatten(0, 1), self.router(x).argmax(-1).flatten()
        y = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            places = torch.nonzero(chosen == number)[:, 0]
            if len(places):
                y = y.index_add(0, places, expert(flat[places]))
        return causal_attention(y.view_as(x))


class OwnGenerator(nn.Module):
    """Skips itself in training mode, by a generator of Python's or NumPy's that it keeps."""

    def __init__(self, generator: random.Random | np.random.Generator | np.random.RandomState) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.generator.random() < 0.5:
            return x
        return causal_attention(self.value(x))


class DropsLongRows(nn.Module):
    """Dropout that only rows of more than 32 tokens meet, and a slope that only negative numbers draw."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.slope = nn.RReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.value(x))
        return causal_attention(F.dropout(x, 0.3, self.training) if x.shape[1] > 32 else x)
