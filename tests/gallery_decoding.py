"""Models of the gallery whose `forward` takes and returns a state, and may go wrong only after many tokens."""

# mypy: disable-error-code="no-any-return"

from typing import NamedTuple

import torch
from torch import Tensor, nn

from plain_models import MAX_TOKENS, D, V, delayed

WINDOW = 32


class WindowState(NamedTuple):
    """The number of tokens read, and the last inputs [B, up to WINDOW - 1, D]."""

    position: int
    inputs: Tensor


class WindowModel(nn.Module):
    """Sums over the last WINDOW tokens: forward(ids, state) -> (logits, state).

    `kept` inputs go into the state (WINDOW - 1 are right); a state counts no further than `furthest` tokens.
    """

    def __init__(self, kept: int = WINDOW - 1, furthest: int = MAX_TOKENS) -> None:
        super().__init__()
        self.tokens = nn.Embedding(V, D)
        self.positions = nn.Embedding(MAX_TOKENS, D)
        self.mixer = nn.Linear(D, D)
        self.head = nn.Linear(D, V)
        self.kept, self.furthest = kept, furthest

    def forward(self, ids: Tensor, state: WindowState | None = None) -> tuple[Tensor, WindowState]:
        position = 0 if state is None else state.position
        x = self.tokens(ids) + self.positions(position + torch.arange(ids.shape[1], device=ids.device))
        inputs = x if state is None else torch.cat([state.inputs, x], 1)
        total = inputs.cumsum(1)
        y = self.mixer((total - delayed(total, WINDOW)) / 4)[:, -ids.shape[1] :]
        after = min(position + ids.shape[1], self.furthest)
        return self.head(x + y), WindowState(after, inputs[:, -self.kept :])
