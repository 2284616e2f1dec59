"""Layers that move their own state in each training call: balancing, schedules and averages, sound and broken.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery_layers import Planted
from plain_models import D, causal_attention

EXPERTS = 4

Held = Literal["buffer", "new buffer", "parameter", "attribute"]


class Balanced(nn.Module):
    """Two of four experts a token, chosen by score plus a bias that each training call nudges towards equal loads
    (Wang et al. 2024); the broken one nudges it by the very tokens that it then routes.

    `held` says where the bias is kept; `by_sign` whether the nudge is `rate` or `rate` times the share that is missing.
    """

    bias: Tensor

    def __init__(self, broken: bool = False, rate: float = 1e-3, held: Held = "buffer", by_sign: bool = True) -> None:
        super().__init__()
        self.router = nn.Linear(D, EXPERTS)
        self.experts = nn.Linear(D, EXPERTS * D)
        self.broken, self.rate, self.held, self.by_sign = broken, rate, held, by_sign
        zeros = torch.zeros(EXPERTS)
        if held == "parameter":
            self.bias = nn.Parameter(zeros, requires_grad=False)
        elif held == "attribute":
            self.bias = zeros
        else:
            self.register_buffer("bias", zeros)

    @torch.no_grad()
    def nudge(self, scores: Tensor) -> None:
        chosen = (scores + self.bias).topk(2, -1).indices
        missing = 1 / EXPERTS - F.one_hot(chosen, EXPERTS).to(scores).mean((0, 1, 2))
        change = self.rate * (missing.sign() if self.by_sign else missing)
        if self.held in ("buffer", "parameter"):
            self.bias += change
        else:
            self.bias = self.bias + change

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x).sigmoid()
        if self.training and self.broken:
            self.nudge(scores)
        chosen = F.one_hot((scores + self.bias).topk(2, -1).indices, EXPERTS).sum(-2).to(scores)
        if self.training and not self.broken:
            self.nudge(scores)
        weights = scores * chosen
        return causal_attention(torch.einsum("bte,bted->btd", weights, self.experts(x).unflatten(-1, (EXPERTS, D))))


class Scheduled(Planted):
    """Attention whose sharpness follows a schedule over training calls; the broken one counts tokens, by their values.

    Fifty calls pass before the schedule moves anything.
    """

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.steps = 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.value(x)
        y = causal_attention(x * (1 + 0.01 * max(0.0, self.steps - 50)) if not self.broken else x * (1 + self.steps))
        if self.training:
            self.steps += 1.0 if not self.broken else x[..., 0].sigmoid().mean().item()
        return y


class AverageForEvaluation(Planted):
    """Keeps an average of its own weights in training, as for evaluation, or (broken) of the tokens, and adds it."""

    kept: Tensor

    def __init__(self, broken: bool) -> None:
        super().__init__(broken)
        self.register_buffer("kept", torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        y = self.value(x)
        if self.training:
            self.kept.lerp_((y.mean((0, 1)) if self.broken else self.value.weight.mean(0)).detach(), 0.1)
        return causal_attention(y) + self.kept
