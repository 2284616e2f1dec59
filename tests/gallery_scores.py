"""Losses and log-probabilities of the gallery, right and wrong: what `audit(loss=...)` and `audit(log_prob=...)` take.

Shapes: B rows, T tokens, W logits of each token, of which the first V are ids.
"""

import math

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
    """What a distribution [B, T, W] holds for the next tokens: [B, T - 1]."""
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
