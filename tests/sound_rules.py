"""Rules over time of the sound zoo: each seems to look ahead, and does not.

A rule has no parameters: [B, T, D] -> [B, T, D].
"""

# mypy: disable-error-code="no-any-return"

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from plain_models import D, attention, causal_attention, delayed, running_mean

CHUNK = 16

sinks_and_window = attention(lambda query, key: (key <= query) & ((key < 4) | (query - key < 16)))


def alibi(x: Tensor) -> Tensor:
    """Attention with a penalty that grows with the distance (Press et al. 2022)."""
    time = torch.arange(x.shape[1], device=x.device)
    distance = time[:, None] - time
    scores = x @ x.mT / math.sqrt(D) - 0.25 * distance.to(x)
    return scores.masked_fill(distance < 0, -math.inf).softmax(-1) @ x


def token_shift(x: Tensor) -> Tensor:
    return torch.lerp(x, delayed(x), torch.linspace(0, 1, D, dtype=x.dtype, device=x.device))


def cumulative_norm(x: Tensor) -> Tensor:
    """Divided by the root mean square of everything so far, over time and features."""
    return x / running_mean(x.square().mean(-1, keepdim=True)).add(1e-5).sqrt()


def box_filter(x: Tensor) -> Tensor:
    """The sum of the last eight tokens, as a difference of two sums over everything."""
    total = x.cumsum(1)
    return total - delayed(total, 8)


def earlier_half(x: Tensor) -> Tensor:
    """Position t gathers position t // 2."""
    return x[:, torch.arange(x.shape[1], device=x.device) // 2]


def unfolded(x: Tensor) -> Tensor:
    """The greatest of the last five tokens, through a view with a window axis."""
    return F.pad(x, (0, 0, 4, 0)).unfold(1, 5, 1).amax(-1)


def doubling_scan(x: Tensor) -> Tensor:
    """A sum over the past in log2 T strides of doubling length."""
    stride = 1
    while stride < x.shape[1]:
        x = x + 0.5 * delayed(x, stride)
        stride *= 2
    return x


def chunked_linear_attention(x: Tensor) -> Tensor:
    """Linear attention in chunks of 16 over a padded sequence: masked inside a chunk, a state between chunks."""
    chunks = F.pad(x, (0, 0, 0, -x.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK))
    states = (chunks.mT @ chunks).cumsum(1)
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1)
    inside = (chunks @ chunks.mT).tril() @ chunks
    return (inside + chunks @ before).flatten(1, 2)[:, : x.shape[1]] / D


def greatest_three(x: Tensor) -> Tensor:
    """Attention to the three largest scores among the past alone."""
    time = torch.arange(x.shape[1], device=x.device)
    scores = (x @ x.mT).masked_fill(time > time[:, None], -math.inf)
    third = scores.topk(min(3, x.shape[1]), -1).values[..., -1:]
    return scores.masked_fill(scores < third, -math.inf).softmax(-1) @ x


def in_float32(x: Tensor) -> Tensor:
    """Attention in float32, whatever the model's type."""
    return causal_attention(x.float()).to(x.dtype)


def fourier_in_float32(x: Tensor) -> Tensor:
    """A padded Fourier convolution in float32: sound, with rounding that reaches every position."""
    wide = x.float()
    kernel = torch.exp(-torch.arange(x.shape[1], device=x.device) / 8)
    points = 2 * x.shape[1]
    spectrum = torch.fft.rfft(wide, points, dim=1) * torch.fft.rfft(kernel, points)[:, None]
    return torch.fft.irfft(spectrum, points, dim=1)[:, : x.shape[1]].to(x.dtype)


def with_constants(x: Tensor) -> Tensor:
    """A decaying sum whose decays are worked out without a gradient."""
    with torch.no_grad():
        lag = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        weights = torch.exp(-(lag[:, None] - lag).clamp(min=0) / 8).tril()
    return weights @ x


def in_autocast(x: Tensor) -> Tensor:
    """Attention under bfloat16 autocast."""
    with torch.autocast(x.device.type, torch.bfloat16):
        return causal_attention(x).to(x.dtype)
