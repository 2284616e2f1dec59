"""Embeddings and whole models of the gallery: positions, special ids, a carried state, packing, decoding.

`broken=True` plants the defect; everything else, parameters included, is the same in both.
"""

# mypy: disable-error-code="no-any-return"

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plain_models import MAX_TOKENS, D, Small, V, advanced, delayed

SEPARATOR = 1


class ScaledPositions(nn.Module):
    """Sinusoids of t / T, or of t / 64."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        time = torch.arange(ids.shape[1], device=ids.device) / (ids.shape[1] if self.broken else 64)
        angle = (time[:, None] * torch.arange(1, D + 1, device=ids.device)).to(self.table.weight)
        return self.table(ids) + angle.sin()


class PositionsFromTheRight(nn.Module):
    """Learned positions, counted from the last token, or from the first."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.positions = nn.Embedding(MAX_TOKENS, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        time = torch.arange(ids.shape[1], device=ids.device)
        return self.table(ids) + self.positions(time.flip(0) if self.broken else time)


class NextTokenMarker(nn.Module):
    """An embedding in which the special id V - 1 is read with the token after it, or with the one before."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        neighbour = advanced(x) if self.broken else delayed(x)
        return x + neighbour * (ids == V - 1)[..., None]


class HashedBigram(nn.Module):
    """An embedding of token pairs: with the token after (the target inside the key), or with the one before."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.pairs = nn.Embedding(97, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        neighbour = F.pad(ids, (0, 1))[:, 1:] if self.broken else F.pad(ids, (1, 0))[:, :-1]
        return self.table(ids) + self.pairs((ids * 31 + neighbour) % 97)


class RunLength(nn.Module):
    """An embedding that tells the length of a token's run of repeats: of the whole run, or of it so far."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        start = torch.ones_like(ids)
        start[:, 1:] = ids[:, 1:] != ids[:, :-1]
        run = start.cumsum(1)
        same = run[:, :, None] == run[:, None]
        length = (same if self.broken else same.tril()).sum(-1)
        return self.table(ids) * (1 + length.to(self.table.weight)[..., None] / 8)


class CountOfToken(nn.Module):
    """An embedding scaled by how often the token occurs: in the whole sequence, or up to here."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        same = ids[:, :, None] == ids[:, None]
        count = (same if self.broken else same.tril()).sum(-1)
        return self.table(ids) * (1 + count.to(self.table.weight)[..., None] / 8)


class CarriedState(nn.Module):
    """A decaying sum with an initial state; returns its final one."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        state = x.new_zeros(x.shape[0], D) if state is None else state
        outputs = []
        for value in self.value(x).unbind(1):
            state = 0.9 * state + value
            outputs.append(state)
        return torch.stack(outputs, 1), state


class CarryingModel(nn.Module):
    """Two recurrent layers; the second starts from nothing, or from the first one's final state."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.blocks = nn.ModuleList([CarriedState(), CarriedState()])
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V)
        self.broken = broken

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        state = None
        for block in self.blocks:
            y, final = block(x, state)
            x = x + y
            state = final if self.broken else None
        return self.head(self.norm(x))


class DocumentAttention(nn.Module):
    """Causal attention inside documents; the broken one counts a document's last token to the next document."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.broken = broken

    def forward(self, x: Tensor, document: Tensor) -> Tensor:
        value = self.value(x)
        of_key = F.pad(document[:, 1:], (0, 1), value=-1) if self.broken else document
        own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        readable = ((document[:, :, None] == of_key[:, None]) | own).tril()
        scores = value @ value.mT / math.sqrt(D)
        return scores.masked_fill(~readable, -math.inf).softmax(-1) @ value


class PackingModel(nn.Module):
    """Reads documents packed into one row; each begins with the id SEPARATOR."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.mixers = nn.ModuleList([DocumentAttention(False), DocumentAttention(broken)])
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V)

    def forward(self, ids: Tensor) -> Tensor:
        document = (ids == SEPARATOR).cumsum(1)
        x = self.embedding(ids)
        for mixer in self.mixers:
            x = x + mixer(x, document)
        return self.head(self.norm(x))


class Initialised(Small):
    """Draws its matrices from N(0, 0.02^2), and by mistake also the vectors that its layers had set themselves."""

    def __init__(self, block: nn.Module, broken: bool) -> None:
        super().__init__([block])
        for parameter in self.parameters():
            if parameter.ndim >= 2 or broken:
                nn.init.normal_(parameter, std=0.02)


def llama(broken: bool) -> nn.Module:
    """transformers' Llama, whose configuration can take its mask away."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    config.is_causal = not broken
    return transformers.LlamaForCausalLM(config)


class DecodingState(NamedTuple):
    """The tokens read so far, the last input [B, D] and the sum of all inputs [B, D] of the one layer."""

    position: int
    last: Tensor
    total: Tensor


class DecodingModel(nn.Module):
    """Token shift and a running mean, whole or step by step.

    The state keeps the input `kept_back` tokens from the end (1 is right); a step counts its position
    `position_offset` too far (0 is right); a prefill leaves out the tokens past a multiple of `chunk` (1 leaves none).
    """

    def __init__(self, kept_back: int = 1, position_offset: int = 0, chunk: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(V, D)
        self.positions = nn.Embedding(MAX_TOKENS, D)
        self.mixer = nn.Linear(3 * D, D)
        self.head = nn.Linear(D, V)
        self.kept_back, self.position_offset, self.chunk = kept_back, position_offset, chunk

    def initial_state(self, batch: int) -> DecodingState:
        zeros = self.tokens.weight.new_zeros(batch, D)
        return DecodingState(0, zeros, zeros)

    def forward(self, ids: Tensor) -> Tensor:
        return self.prefill(ids)[0]

    def prefill(self, ids: Tensor, state: DecodingState | None = None) -> tuple[Tensor, DecodingState]:
        state = self.initial_state(len(ids)) if state is None else state
        time = state.position + torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(time)
        shifted = torch.cat([state.last[:, None], x[:, :-1]], 1)
        totals = state.total[:, None] + x.cumsum(1)
        y = self.mixer(torch.cat([x, shifted, totals / (time + 1)[:, None]], -1))
        whole = ids.shape[1] - ids.shape[1] % self.chunk if ids.shape[1] > 1 else 1
        total = totals[:, whole - 1] if whole else state.total
        last = x[:, max(ids.shape[1] - self.kept_back, 0)]
        return self.head(x + y), DecodingState(state.position + ids.shape[1], last, total)

    def step(self, ids: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        moved = state._replace(position=state.position + self.position_offset)
        logits, state = self.prefill(ids[:, None], moved)
        return logits[:, 0], state._replace(position=state.position - self.position_offset)
