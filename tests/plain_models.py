"""Parts of small language models in plain PyTorch, for the mutant gallery and the sound zoo.

Shapes: B batch, T tokens, D width, V vocabulary. None of it is an assay layer: the audit is for any nn.Module.
"""

# mypy: disable-error-code="no-any-return"

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

V, D = 61, 16
MAX_TOKENS = 640

Rule = Callable[[Tensor], Tensor]
"""Moves information along the sequence without parameters of its own: [B, T, D] -> [B, T, D]."""

Make = Callable[[], nn.Module]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `build` makes when torch's own initialisers draw from `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


class Mixing(nn.Module):
    """out(rule(value(x))): a rule over time between two projections; `zero_out` starts the second at zero."""

    def __init__(self, rule: Rule, zero_out: bool = False) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.out = nn.Linear(D, D)
        self.rule = rule
        if zero_out:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rule(self.value(x)))


class Block(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, mixer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


class Small(nn.Module):
    """ids [B, T] -> logits [B, T, V]: an embedding, the blocks, a norm and a head."""

    def __init__(self, blocks: Iterable[nn.Module], embedding: nn.Module | None = None, outputs: int = V) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D) if embedding is None else embedding
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, outputs, bias=False)

    def hidden(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.hidden(ids))


class Wrapped(nn.Module):
    """A model whose logits come in another container."""

    def __init__(self, model: nn.Module, container: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model = model
        self.container = container

    def forward(self, ids: Tensor) -> object:
        return self.container(self.model(ids))


def attention(readable: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """Softmax attention in which a position reads the keys for which `readable(query [T, 1], key [1, T])` is true."""

    def rule(x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1], device=x.device)
        scores = x @ x.mT / math.sqrt(x.shape[-1])
        closed = ~readable(time[:, None], time[None])
        return scores.masked_fill(closed, -math.inf).softmax(-1) @ x

    return rule


causal_attention = attention(lambda query, key: key <= query)


def running_mean(x: Tensor) -> Tensor:
    """The mean of the tokens so far."""
    count = torch.arange(1, x.shape[1] + 1, device=x.device)
    return x.cumsum(1) / count[:, None]


def delayed(x: Tensor, steps: int = 1) -> Tensor:
    """What stood `steps` tokens earlier, zeros before the first."""
    return F.pad(x, (0, 0, steps, 0))[:, : x.shape[1]]


def advanced(x: Tensor, steps: int = 1) -> Tensor:
    """What stands `steps` tokens later, zeros after the last: a leak wherever it is used."""
    return F.pad(x, (0, 0, 0, steps))[:, steps:]


def small(mixer: nn.Module, norm: nn.Module | None = None, embedding: nn.Module | None = None) -> Small:
    """Two blocks: sound causal attention, then `mixer` behind `norm` (LayerNorm where none is given)."""
    first = Block(Mixing(causal_attention), nn.LayerNorm(D))
    return Small([first, Block(mixer, nn.LayerNorm(D) if norm is None else norm)], embedding)
