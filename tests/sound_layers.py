"""Layers and models of the sound zoo: each seems to look ahead, mix rows or keep a state, and does not."""

# mypy: disable-error-code="no-any-return"

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plain_models import MAX_TOKENS, D, Small, V, causal_attention, delayed, running_mean


class MinGRU(nn.Module):
    """minGRU, h_t = (1 - z_t) h_{t-1} + z_t g(h~_t), by a scan in log space (Feng et al. 2024, appendix B)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(D, D)
        self.value = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.gate(x), self.value(x)
        log_kept = -F.softplus(gate).cumsum(1)
        log_value = torch.where(value >= 0, (F.relu(value) + 0.5).log(), -F.softplus(-value)) - F.softplus(-gate)
        return (log_kept + torch.logcumsumexp(log_value - log_kept, 1)).exp()


class LearnedSinks(nn.Module):
    """Causal attention with three learned keys that stand before the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks = nn.Parameter(torch.randn(3, D))

    def forward(self, x: Tensor) -> Tensor:
        full = torch.cat([self.sinks.expand(x.shape[0], -1, -1), x], 1)
        return causal_attention(full)[:, 3:]


class RotationWithOffset(nn.Module):
    """Rotary attention that counts from position 1000."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(1000, 1000 + x.shape[1], device=x.device, dtype=x.dtype)
        angle = time[:, None] * 100.0 ** -(torch.arange(0, D, 2, device=x.device, dtype=x.dtype) / D)
        turn = torch.polar(torch.ones_like(angle), angle)
        query, key = (torch.view_as_complex(y.unflatten(-1, (-1, 2))) * turn for y in (self.query(x), self.key(x)))
        scores = (query @ key.mH).real / math.sqrt(D)
        return scores.masked_fill(time > time[:, None], -math.inf).softmax(-1) @ x


class DilatedConvolution(nn.Module):
    """Width 3, dilation 4, padded on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(D, D, 3, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x.mT, (8, 0))).mT


class Recurrent(nn.Module):
    """torch's GRU or LSTM, given time first as it wants it."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.rnn = kind(D, D)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rnn(x.transpose(0, 1))[0]
        return y.transpose(0, 1)


class TorchAttention(nn.Module):
    """nn.MultiheadAttention under a mask that is a buffer."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 4, batch_first=True)
        self.register_buffer("mask", torch.ones(MAX_TOKENS, MAX_TOKENS, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask[: x.shape[1], : x.shape[1]]
        y: Tensor = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return y


class TorchEncoderLayer(nn.Module):
    """nn.TransformerEncoderLayer under a causal mask: dropout in training, a fused path in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 4, 2 * D, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return self.layer(x, src_mask=mask, is_causal=True)


class Counting(nn.Module):
    """Counts its calls and sums up its inputs in a buffer, as load balancing does, and uses neither for its output."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.calls = 0
        self.register_buffer("total", torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total.add_(x.detach().sum((0, 1)))
        return running_mean(self.value(x))


class TokenExperts(nn.Module):
    """Four experts; each token takes its best two, over tokens flattened to [B T, D], with a softmax over experts."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(D, 4)
        self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        flat = delayed(x).add(x).flatten(0, 1)
        weights, chosen = self.router(flat).softmax(-1).topk(2, -1)
        y = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, place = (chosen == index).nonzero(as_tuple=True)
            y = y.index_add(0, token, weights[token, place, None] * expert(flat[token]))
        return y.view_as(x)


class DroppedAttention(nn.Module):
    """Causal attention with dropout on its weights and on its output."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.weight_dropout = nn.Dropout(p)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        time = torch.arange(x.shape[1], device=x.device)
        scores = (value @ value.mT / math.sqrt(D)).masked_fill(time > time[:, None], -math.inf)
        return self.dropout(self.weight_dropout(scores.softmax(-1)) @ value)


class Float32Norm(nn.LayerNorm):
    """LayerNorm computed in float32 and cast back."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Float32Only(nn.Module):
    """Holds a float32 table that is neither parameter nor buffer: the model cannot run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(D, D) / math.sqrt(D)

    def forward(self, x: Tensor) -> Tensor:
        return causal_attention(x @ self.table)


class LearnedPositions(nn.Module):
    """Token table plus `room` learned positions."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.positions = nn.Embedding(room, D)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))


class OneHot(nn.Module):
    """An embedding without nn.Embedding: one-hot rows through a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(V, D, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(F.one_hot(ids, V).to(self.table.weight))


class ScaledEmbedding(nn.Embedding):
    """Embeddings times the square root of a width of 10,000."""

    def forward(self, ids: Tensor) -> Tensor:
        return 100.0 * super().forward(ids)


class SoftCapped(Small):
    """Logits through 5 tanh(x / 5)."""

    def forward(self, ids: Tensor) -> Tensor:
        return 5 * torch.tanh(super().forward(ids) / 5)


class MaskedIds(Small):
    """A head of 64 outputs for a vocabulary of 61: the ids that do not exist get minus infinity."""

    def forward(self, ids: Tensor) -> Tensor:
        logits = super().forward(ids)
        return logits.masked_fill(torch.arange(logits.shape[-1], device=ids.device) >= V, -math.inf)


class Tied(Small):
    """The head is the token table."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__([block])
        self.head.weight = self.embedding.weight  # type: ignore[assignment]  # nn.Embedding's


class Unigram(nn.Module):
    """The same logits whatever it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(V))

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits.expand(*ids.shape, V)
