"""Rules over time for the gallery: each broken rule next to the sound rule that it is a small mistake away from.

A rule has no parameters: [B, T, D] -> [B, T, D]. Rules of one pair stand together, the broken one first.
"""

# mypy: disable-error-code="no-any-return"

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from plain_models import advanced, attention, causal_attention, delayed

CHUNK = 16

one_ahead = attention(lambda query, key: key <= query + 1)
everywhere = attention(lambda query, key: key >= 0 * query)
block_causal = attention(lambda query, key: key // CHUNK <= query // CHUNK)
ahead_at_chunk_ends = attention(lambda query, key: key <= query + (query % 64 == 63).long())
ahead_at_hundreds = attention(lambda query, key: key <= query + (query % 100 == 99).long())
ahead_beyond_256 = attention(lambda query, key: key <= query + (query >= 256).long())


def final_state_read(x: Tensor) -> Tensor:
    """Linear attention that reads the state after the last token at every position."""
    state = torch.einsum("btk,btv->bkv", x, x)
    return torch.einsum("btk,bkv->btv", x, state) / math.sqrt(x.shape[1])


def own_state_read(x: Tensor) -> Tensor:
    """Linear attention that reads the state at its own position."""
    state = torch.einsum("btk,btv->btkv", x, x).cumsum(1)
    count = torch.arange(1, x.shape[1] + 1, device=x.device)
    return torch.einsum("btk,btkv->btv", x, state) / count.sqrt()[:, None].to(x)


def mean_over_sequence(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand_as(x)


def quantised(x: Tensor, scale: Tensor) -> Tensor:
    """x in steps of scale / 127, with the straight-through gradient."""
    steps = (x / scale * 127).round() * scale / 127
    return x + (steps - x).detach()


def absmax_over_tensor(x: Tensor) -> Tensor:
    return quantised(x, x.abs().amax())


def absmax_over_token(x: Tensor) -> Tensor:
    return quantised(x, x.abs().amax(-1, keepdim=True))


def fast_weights(x: Tensor, update_first: bool) -> Tensor:
    """Fast weights take one gradient step of |k W - v|^2 / 2 a chunk; each chunk is answered by the weights
    from before its own step, or (a leak) from after it."""
    weights = x.new_zeros(x.shape[0], x.shape[-1], x.shape[-1])
    answers = []
    for chunk in x.split(CHUNK, 1):
        before = weights
        error = delayed(chunk) @ weights - chunk
        weights = weights - delayed(chunk).mT @ error / CHUNK
        answers.append(chunk @ (weights if update_first else before))
    return torch.cat(answers, 1)


def chunk_state(x: Tensor, shift: int) -> Tensor:
    """The mean of the chunk of 16 that lies `shift` chunks back, at every position of a chunk; 0 is its own."""
    padded = F.pad(x, (0, 0, 0, -x.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK))
    means = delayed(padded.mean(2), shift)
    return means[:, :, None].expand_as(padded).flatten(1, 2)[:, : x.shape[1]]


def pooled_attention(x: Tensor, own_block: bool) -> Tensor:
    """Attention to the means of blocks of 16; with `own_block`, also to the block that is not over yet."""
    blocks = F.pad(x, (0, 0, 0, -x.shape[1] % CHUNK)).unflatten(1, (-1, CHUNK)).mean(2)
    blocks = torch.cat([torch.zeros_like(blocks[:, :1]), blocks], 1)
    query = torch.arange(x.shape[1], device=x.device)[:, None] // CHUNK
    closed = torch.arange(blocks.shape[1], device=x.device) > query + int(own_block)
    return (x @ blocks.mT).masked_fill(closed, -math.inf).softmax(-1) @ blocks


def whisper(x: Tensor) -> Tensor:
    """Causal attention plus 1e-5 times the next token."""
    return causal_attention(x) + 1e-5 * advanced(x)


def echo(x: Tensor) -> Tensor:
    """Causal attention plus 1e-5 times the token before."""
    return causal_attention(x) + 1e-5 * delayed(x)


def fourier_convolution(x: Tensor, points: int) -> Tensor:
    """Convolution with exp(-t / 4) through a Fourier transform of `points` points: fewer than 2T wrap around."""
    kernel = torch.exp(-torch.arange(x.shape[1], device=x.device, dtype=x.dtype) / 4)
    spectrum = torch.fft.rfft(x, points, dim=1) * torch.fft.rfft(kernel, points)[:, None]
    return torch.fft.irfft(spectrum, points, dim=1)[:, : x.shape[1]]


def masked_softmax(x: Tensor, axis: int) -> Tensor:
    """Causal attention whose scores are normalised over `axis`: the keys (-1), or by mistake the queries (-2)."""
    time = torch.arange(x.shape[1], device=x.device)
    scores = (x @ x.mT).masked_fill(time > time[:, None], -math.inf)
    return scores.softmax(axis) @ x


def share_of_total(x: Tensor) -> Tensor:
    return (x.exp() * x).cumsum(1) / x.exp().sum(1, keepdim=True)


def share_so_far(x: Tensor) -> Tensor:
    return (x.exp() * x).cumsum(1) / x.exp().cumsum(1)


def sorted_over_time(x: Tensor) -> Tensor:
    return x.sort(1).values


def greatest_so_far(x: Tensor) -> Tensor:
    return x.cummax(1).values


def reversed_residual(x: Tensor) -> Tensor:
    return x + x.flip(1)


def delayed_residual(x: Tensor) -> Tensor:
    return x + delayed(x)


def rolled(x: Tensor) -> Tensor:
    """The token before by torch.roll, which hands the last token to the first position."""
    return x.roll(1, 1)


def sharpened(x: Tensor, by_length: bool) -> Tensor:
    """Causal attention with scores times log of the length T (a slip), or of the query's own position."""
    time = torch.arange(x.shape[1], device=x.device)
    scores = (x @ x.mT).masked_fill(time > time[:, None], -math.inf)
    count = torch.full_like(time, x.shape[1]) if by_length else time + 1
    return (scores * torch.log(count + 1.0)[:, None].to(x)).softmax(-1) @ x


def across_rows(x: Tensor) -> Tensor:
    """Attention over the batch axis, mistaken for that of time."""
    return everywhere(x.transpose(0, 1)).transpose(0, 1)


def own_value(x: Tensor) -> Tensor:
    """Attention of every token to itself alone."""
    return attention(lambda query, key: key == query)(x)


def bank_of_batch(x: Tensor) -> Tensor:
    """A key bank from the first tokens of all rows."""
    bank = x[:, 0]
    return (x @ bank.mT).softmax(-1) @ bank


def bank_of_row(x: Tensor) -> Tensor:
    """A key bank from the first token of the row itself, and a zero."""
    bank = torch.stack([x[:, 0], torch.zeros_like(x[:, 0])], 1)
    return (x @ bank.mT).softmax(-1) @ bank
