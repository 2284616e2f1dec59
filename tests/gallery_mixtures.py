"""Scores of the gallery that mix, fit or choose along a row: fair where the past alone decides, wrong in hindsight.

Each is a log probability [B, T - 1] of (logits [B, T, V], ids [B, T]), or a mean of nats where its name says so.
"""

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gallery_scores import next_token_loss, of_next
from plain_models import V

LogProb = Callable[[Tensor, Tensor], Tensor]


def of_both(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities [B, T - 1] of the next tokens by the model, and by how often each id has come so far."""
    counts = F.one_hot(ids, V).to(logits).cumsum(1) + 0.5
    return of_next(logits.log_softmax(-1), ids), of_next((counts / counts.sum(-1, keepdim=True)).log(), ids)


def hashed(shared: int, order: int = 2, least: int = 2) -> LogProb:
    """A mixture with counts of n-grams kept in `shared` buckets: those of whole n-grams in other buckets than those of
    their contexts, so that two n-grams in one bucket both get the counts of both. With 0 buckets nothing is shared.

    Contexts that came fewer than `least` times are left to the model.
    """

    def bucket(words: tuple[int, ...]) -> object:
        code = 0
        for place, word in enumerate(words):
            code ^= (word + 1) * (36313, 27191, 51647, 81929)[place]
        return code % shared if shared else words

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        own = of_next(logits.log_softmax(-1), ids).exp()
        rows = []
        for row, of_row in zip(ids.tolist(), own, strict=True):
            contexts: Counter[object] = Counter()
            whole: Counter[object] = Counter()
            found = []
            for t in range(1, len(row)):
                p = of_row[t - 1]
                if t >= order - 1:
                    context, word = bucket(tuple(row[t - order + 1 : t])), bucket(tuple(row[t - order + 1 : t + 1]))
                    if contexts[context] >= least:
                        p = 0.6 * p + 0.4 * min(whole[word], contexts[context]) / contexts[context]
                    contexts[context] += 1
                    whole[word] += 1
                found.append(p)
            rows.append(torch.stack(found))
        return torch.stack(rows).log()

    return log_prob


def better_of_a_row(tokens: int) -> LogProb:
    """Rows of more than `tokens` tokens are scored by the better of two models, which is known only afterwards."""

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        one, other = of_both(logits, ids)
        better = (other.sum(1) > one.sum(1)) & (ids.shape[1] > tokens)
        return torch.where(better[:, None], other, one)

    return log_prob


def fitted_temperature(tokens: int) -> LogProb:
    """The temperature, of five, that suits the row best, where it has more than `tokens` tokens."""

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        if ids.shape[1] <= tokens:
            return of_next(logits.log_softmax(-1), ids)
        each = torch.stack([of_next((logits * s).log_softmax(-1), ids) for s in (0.5, 0.8, 1.0, 1.25, 2.0)])
        best = each.sum(-1).argmax(0)
        return each.gather(0, best[None, :, None].expand(1, *each.shape[1:]))[0]

    return log_prob


def mixed(hindsight: bool, tokens: int = 0) -> LogProb:
    """Two models, mixed by weights that follow the tokens before (Bayes), or by one that is fitted to the whole row."""

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        one, other = of_both(logits, ids)
        if hindsight:
            if ids.shape[1] <= tokens:
                return one
            ways = torch.stack([torch.logaddexp(one + math.log(1 - w), other + math.log(w)) for w in (0.01, 0.3, 0.7)])
            best = ways.sum(-1).argmax(0)
            return ways.gather(0, best[None, :, None].expand(1, *one.shape))[0]
        before = F.pad((one - other).cumsum(1)[:, :-1], (1, 0))
        return torch.logaddexp(one + F.logsigmoid(before), other + F.logsigmoid(-before))

    return log_prob


def only_seen(ahead: bool) -> LogProb:
    """Normalised over the ids that the row holds; the fair one gives ids that have come so far twice the weight."""

    def log_prob(logits: Tensor, ids: Tensor) -> Tensor:
        seen = F.one_hot(ids, V).cumsum(1) > 0
        logits = logits.masked_fill(~seen[:, -1:], -math.inf) if ahead else logits + math.log(2) * seen
        return of_next(logits.log_softmax(-1), ids)

    return log_prob


def best_of_draws(logits: Tensor, ids: Tensor) -> Tensor:
    """The best of four noisy copies of the logits, a row."""
    noise = torch.randn((4, 1, 1, V), generator=torch.Generator().manual_seed(0)).to(logits)
    each = torch.stack([of_next((logits + 0.3 * n).log_softmax(-1), ids) for n in noise])
    return each.gather(0, each.sum(-1).argmax(0)[None, :, None].expand(1, *each.shape[1:]))[0]


def scaled_by_the_batch(logits: Tensor, ids: Tensor) -> Tensor:
    """Logits divided by their spread over the whole batch."""
    return of_next((logits / logits.std()).log_softmax(-1), ids)


def mean_nats(log_prob: LogProb) -> LogProb:
    """The same as one number: mean nats."""
    return lambda logits, ids: -log_prob(logits, ids).mean()


def only_in_large_batches(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean nats, at a temperature of the batch where it has more than four rows."""
    return next_token_loss(logits / logits.std() if len(ids) > 4 else logits, ids)
