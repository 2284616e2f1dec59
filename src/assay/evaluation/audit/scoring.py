"""Scoring: the next token is scored, and the scores of all V candidates for one place sum to one.

Shapes: B rows, T tokens, V vocabulary, W width of the logits.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.errors import RequestError
from assay.evaluation.audit.findings import Finding
from assay.evaluation.audit.search import Search
from assay.evaluation.audit.subject import RaisedError, Subject, logits_of
from assay.model.lm import LanguageModel
from assay.ops.cross_entropy import summed_nats

CLOSE = 1e-6
"""Nats, and shares of probability, that count as equal."""
CANDIDATES = 2048
"""The largest vocabulary whose candidates are scored one by one."""

Score = Callable[..., Tensor]
"""`loss(model, ids)` or `loss(logits, ids)`: nats, a mean, a sum or one for each later token; `log_prob` likewise."""


@dataclass(frozen=True)
class Scorer:
    """`nats(model, ids [B, T])`: one number, or [B, T - 1] for tokens 1 to T - 1; `name` is what to call it."""

    name: str
    nats: Callable[[nn.Module, Tensor], Tensor]


def scorer_of(subject: Subject, loss: Score | None, log_prob: Score | None) -> Scorer | None:
    """What is given, else what is known: assay's own loss, or the loss that a `labels` argument asks for."""
    if log_prob is not None:
        negative = _called("log_prob", log_prob)
        return Scorer("log_prob", lambda model, ids: -_of_later_tokens(negative(model, ids), ids))
    if loss is not None:
        return Scorer("loss", _called("loss", loss))
    if isinstance(subject.model, LanguageModel):
        return Scorer("assay's loss", _own_loss)
    if "labels" in inspect.signature(subject.model.forward).parameters:
        return Scorer("the loss of `labels`", lambda model, ids: model(ids, labels=ids).loss)
    return None


def scoring(subject: Subject, search: Search, loss: Score | None = None, log_prob: Score | None = None) -> Finding:
    """Compare the score with the cross-entropy of the logits, by which token it scores and over which ids; a score that
    is none of those is summed over all candidates."""
    scorer = scorer_of(subject, loss, log_prob)
    T = min(search.content, 16)
    generator = torch.Generator().manual_seed(search.seed + 9)
    ids = torch.randint(subject.vocab_size, (2, T), generator=generator).to(subject.device)
    logits = subject.logits(ids).double()
    outside = 1 - math.exp(_log_share(logits, subject.vocab_size).item())
    if scorer is None:
        words = "no `loss` or `log_prob` is given or known"
        if outside > CLOSE:
            words += (
                f"; a softmax over all {subject.outputs} logits puts {outside:.2g} on ids from {subject.vocab_size} on"
            )
        return Finding(check="scoring", status="warn" if outside > CLOSE else "skip", explanation=words)
    if T < 4:
        return Finding(check="scoring", status="skip", explanation="too few tokens to tell which one is scored")
    nats = _scored(subject, scorer, ids)
    for width in dict.fromkeys((subject.vocab_size, subject.outputs)):
        for shift in (1, 0, 2):
            if _agrees(nats, _nats(logits[..., :width], ids, shift)):
                return _matched(subject, scorer, shift, width, outside)
    return _summed(subject, scorer, ids[:1, :1])


def _matched(subject: Subject, scorer: Scorer, shift: int, width: int, outside: float) -> Finding:
    if shift != 1:
        which = "the token that the model has just read" if shift == 0 else "the token after the next"
        words = f"{scorer.name} scores {which}, not the next one"
        return Finding(check="scoring", status="fail", where=scorer.name, explanation=words)
    off = outside if width > subject.vocab_size else 0.0
    words = f"{scorer.name} is the cross-entropy of the next token; its candidates sum to {1 - off:.9g}"
    if off > CLOSE:
        words += f": ids from {subject.vocab_size} to {width - 1} take the rest"
    return Finding(
        check="scoring",
        status="fail" if off > CLOSE else "pass",
        measured=off,
        threshold=CLOSE,
        where=scorer.name if off > CLOSE else None,
        explanation=words,
    )


def _summed(subject: Subject, scorer: Scorer, start: Tensor) -> Finding:
    """The sum of exp(-nats) over every candidate for the token after `start` [1, 1]."""
    V = subject.vocab_size
    if V > CANDIDATES:
        words = f"{scorer.name} is not the cross-entropy of the logits, and {V} candidates are too many to score"
        return Finding(check="scoring", status="warn", explanation=words)
    rows = torch.cat([start.expand(V, 1), torch.arange(V, device=start.device)[:, None]], 1)
    scored = torch.stack([_scored(subject, scorer, row[None]).double().sum() for row in rows])
    total = (-scored).exp().sum().item()
    off = abs(total - 1)
    words = f"{scorer.name} is not the cross-entropy of the logits; its {V} candidates sum to {total:.9g}"
    return Finding(
        check="scoring",
        status="fail" if not off <= CLOSE else "pass",
        measured=off,
        threshold=CLOSE,
        where=scorer.name if not off <= CLOSE else None,
        explanation=words,
    )


def _scored(subject: Subject, scorer: Scorer, ids: Tensor) -> Tensor:
    try:
        with subject.running() as model:
            nats = scorer.nats(model, ids)
    except RaisedError as error:
        raise RequestError(f"{scorer.name}: raised {error} on ids {list(ids.shape)}") from error
    if not isinstance(nats, Tensor) or nats.numel() not in (1, ids.numel() - ids.shape[0], ids.numel()):
        got = list(nats.shape) if isinstance(nats, Tensor) else type(nats).__name__
        raise RequestError(f"{scorer.name}: gave {got} for ids {list(ids.shape)}; one number or [B, T - 1] would do")
    return nats.detach()


def _agrees(nats: Tensor, expected: Tensor) -> bool:
    """Whether `nats` is `expected` token by token, or its mean, or its sum."""
    if nats.numel() == expected.numel() and nats.numel() > 1:
        return torch.allclose(nats.double().flatten(), expected.flatten(), rtol=CLOSE, atol=CLOSE)
    if nats.numel() > 1:
        return False
    return any(
        abs(nats.item() - value.item()) <= CLOSE * max(1.0, abs(value.item()))
        for value in (
            expected.mean(),
            expected.sum(),
            expected.sum() / expected.shape[0],
        )
    )


def _nats(logits: Tensor, ids: Tensor, shift: int) -> Tensor:
    """Cross-entropy [B, T - shift] of the token `shift` places on from the logits [B, T, W]."""
    count = ids.shape[1] - shift
    return -logits[:, :count].log_softmax(-1).gather(-1, ids[:, shift:, None])[..., 0]


def _log_share(logits: Tensor, vocab_size: int) -> Tensor:
    """The logarithm of the smallest probability [] that a softmax over all logits leaves to the vocabulary."""
    return (logits[..., :vocab_size].logsumexp(-1) - logits.logsumexp(-1)).amin()


def _called(name: str, score: Score) -> Callable[[nn.Module, Tensor], Tensor]:
    """`score` on a model and ids, whether it takes the model or its logits."""
    parameters = list(inspect.signature(score).parameters)
    if len(parameters) < 2:
        raise RequestError(f"{name}: takes {len(parameters)} arguments; (model, ids) or (logits, ids) would do")
    if parameters[0] == "logits":
        return lambda model, ids: score(logits_of(model(ids), ids), ids)
    return lambda model, ids: score(model, ids)


def _of_later_tokens(log_prob: Tensor, ids: Tensor) -> Tensor:
    """Without the first token's, which has nothing before it."""
    return log_prob[:, 1:] if log_prob.shape == ids.shape else log_prob


def _own_loss(model: nn.Module, ids: Tensor) -> Tensor:
    assert isinstance(model, LanguageModel)
    hidden, _ = model.hidden(ids[:, :-1])
    return summed_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten())
