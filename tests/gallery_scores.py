"""Losses and log-probabilities of the gallery, right and wrong: what `audit(loss=...)` and `audit(log_prob=...)` take.

Shapes: B rows, T tokens, W logits of each token, of which the first V are ids.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from plain_models import V


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean nats of the next token."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def unshifted_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean nats of the token that has just been read."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def twice_shifted_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean nats of the token after the next, as when a model that shifts is given shifted labels."""
    return F.cross_entropy(logits[:, :-2].flatten(0, 1), ids[:, 2:].flatten())


def of_next(distribution: Tensor, ids: Tensor) -> Tensor:
    """The entries [B, T - 1] of a distribution [B, T, W] for the next tokens."""
    return distribution[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]


def over_ids(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities normalised over the vocabulary."""
    return of_next(logits[..., :V].log_softmax(-1), ids)


def over_all_outputs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities normalised over all outputs, those past the vocabulary included."""
    return of_next(logits.log_softmax(-1), ids)


def binary(logits: Tensor, ids: Tensor) -> Tensor:
    """Each id's log-sigmoid, which no sum over the ids holds to one."""
    return of_next(F.logsigmoid(logits), ids)


def unigram(logits: Tensor) -> Tensor:
    """A second distribution [B, T, V], of log-probabilities that fall off evenly with the id."""
    return (-torch.arange(V, device=logits.device).to(logits) / 8).log_softmax(-1).expand_as(logits)


def better_of_two(logits: Tensor, ids: Tensor) -> Tensor:
    """The larger of two models' probabilities of the token that came: a choice that knows the target."""
    return of_next(torch.maximum(logits.log_softmax(-1), unigram(logits)), ids)


def mean_of_two(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean of two models' probabilities."""
    return of_next(torch.logaddexp(logits.log_softmax(-1), unigram(logits)) - math.log(2), ids)


def nats_of_next(logits: Tensor, ids: Tensor) -> Tensor:
    """[B, T - 1]: the nats of each later token."""
    return -of_next(logits[..., :V].log_softmax(-1), ids)


def clamped(logits: Tensor, ids: Tensor) -> Tensor:
    """No token costs more than ten nats."""
    return nats_of_next(logits, ids).clamp(max=10.0).mean()


def trimmed(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean without the dearest tenth of the tokens."""
    nats = nats_of_next(logits, ids).flatten().sort().values
    return nats[: len(nats) - len(nats) // 10].mean()


def without_hard(logits: Tensor, ids: Tensor) -> Tensor:
    """Tokens of more than eight nats count nothing."""
    nats = nats_of_next(logits, ids)
    return (nats * (nats < 8)).mean()


def focal(logits: Tensor, ids: Tensor) -> Tensor:
    """Likely tokens count less (Lin et al. 2017)."""
    nats = nats_of_next(logits, ids)
    return ((1 - (-nats).exp()) ** 2 * nats).mean()


def smoothed(logits: Tensor, ids: Tensor) -> Tensor:
    """A tenth of the label goes to all ids."""
    return F.cross_entropy(logits[:, :-1, :V].flatten(0, 1), ids[:, 1:].flatten(), label_smoothing=0.1)


def ignoring(id_: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean over the tokens that are not `id_`: padding, or a real token."""

    def loss(logits: Tensor, ids: Tensor) -> Tensor:
        return F.cross_entropy(logits[:, :-1, :V].flatten(0, 1), ids[:, 1:].flatten(), ignore_index=id_)

    return loss


def weighted(logits: Tensor, ids: Tensor) -> Tensor:
    """A mean in which id 3 weighs half."""
    weight = torch.ones(V, dtype=logits.dtype, device=logits.device)
    weight[3] = 0.5
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), weight)


def over_all_positions(logits: Tensor, ids: Tensor) -> Tensor:
    """The sum divided by the number of positions, the last of which has no target."""
    return nats_of_next(logits, ids).sum() / ids.numel()


def target_favoured(logits: Tensor, ids: Tensor) -> Tensor:
    """Logits in which the token that came is raised before they are normalised."""
    hint = F.one_hot(ids[:, 1:], logits.shape[-1]).to(logits)
    return nats_of_next(torch.cat([logits[:, :-1] + hint, logits[:, -1:]], 1), ids).mean()


def whole_chunks(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean over chunks of four tokens, in which those that fill none are left out."""
    nats = nats_of_next(logits, ids)
    return (nats[:, : nats.shape[1] // 4 * 4] if nats.shape[1] > 4 else nats).mean()


def cached(whole: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """A mixture with how often each id has come so far, or comes in the whole sequence."""

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        counts = F.one_hot(ids, V).to(logits)
        counts = counts.sum(1, keepdim=True).expand_as(counts) if whole else counts.cumsum(1)
        share = (counts / counts.sum(-1, keepdim=True)).clamp_min(0)
        return of_next((0.9 * logits.softmax(-1) + 0.1 * share).log(), ids)

    return log_prob


def half_as_sharp(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean nats at a temperature of 2."""
    return next_token_loss(logits / 2, ids)
