"""Gives every kind of score (a loss or log probability) one interface: a model and ids in, nats out.

Shapes: B rows, T tokens, V vocabulary.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.scoring.own_loss import own_loss
from assay.audit.subject.subject import Subject
from assay.errors import RequestError
from assay.model.lm import LanguageModel
from assay.ops.cross_entropy import token_nats

Score = Callable[..., Any]
"""`loss(model, ids)` or `loss(logits, ids)` that returns nats: a mean, a sum, or one for each token but the first; or a
`log_prob` with the same arguments.
"""


class ScoreError(Exception):
    """The score raised, or gave something else than nats; the text is one line without the score's name."""


@dataclass(frozen=True)
class Scorer:
    """A score. `called` takes (model, ids [B, T]), or (logits, ids) where `on_logits`; messages call it `name`.

    `known` says that it comes with the model and was not given by the user, `of_labels` that it is a loss to train
    with, which may have other terms; `sign` is -1 for log probabilities.
    """

    name: str
    called: Callable[[Any, Tensor], Any]
    on_logits: bool = False
    known: bool = False
    of_labels: bool = False
    sign: float = 1.0

    def nats(self, model: nn.Module, ids: Tensor, logits: Tensor | None = None) -> Tensor:
        """One number [], or [B, T - 1] for tokens 1 to T - 1, in float64, of the model or of the `logits` of `ids`."""
        return self._read(self.called(logits if self.on_logits else model, ids), ids)

    def _read(self, given: Any, ids: Tensor) -> Tensor:
        B, T = ids.shape
        if isinstance(given, Real) and not isinstance(given, bool):
            given = torch.tensor(float(given), dtype=torch.float64)
        counts = (1, B * (T - 1), B * T)
        if not isinstance(given, Tensor) or not given.is_floating_point() or given.numel() not in counts:
            got = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            got = got.replace("torch.", "")
            raise ScoreError(f"gave {got} for ids {list(ids.shape)}; nats, one number or [B, T - 1], would do")
        nats = self.sign * given.detach().double().to(ids.device)
        if nats.numel() == 1:
            return nats.reshape(())
        return nats.reshape(B, T - 1) if nats.numel() == B * (T - 1) else self._of_later_tokens(nats.reshape(B, T))

    def _of_later_tokens(self, nats: Tensor) -> Tensor:
        """The columns of nats [B, T] that belong to tokens 1 to T - 1.

        A score of T columns has zeros either in the first, as the first token has nothing before it, or in the last, as
        the last position has no target. A loss with neither stays as it is: it scores another token than the next.
        """
        if self.sign < 0 or not nats[:, 0].any():
            return nats[:, 1:]
        return nats if nats[:, -1].any() else nats[:, :-1]


def scorer_of(subject: Subject, loss: Score | None, log_prob: Score | None) -> Scorer | None:
    """The score given by the user, else the model's own: assay's loss, or that of labels that `forward` takes."""
    if log_prob is not None:
        return _given(subject, "log_prob", log_prob, -1.0)
    if loss is not None:
        return _given(subject, "loss", loss, 1.0)
    if isinstance(subject.model, LanguageModel):
        return Scorer("assay's loss", _own_loss, known=True)
    own = own_loss(subject)
    return None if own is None else Scorer(f"the loss of {own[0].places()}", own[1], known=True, of_labels=True)


def _given(subject: Subject, name: str, score: Any, sign: float) -> Scorer:
    """`score` as a Scorer; whether it takes the model or logits follows from its first argument's name, or is tried."""
    if not callable(score):
        raise RequestError(f"{name}: {str(score)[:60]!r} given; a callable (model, ids) or (logits, ids) would do")
    on_model, on_logits = (Scorer(name, score, wanted, sign=sign) for wanted in (False, True))
    first = _first_name(name, score)
    if first == "logits":
        return on_logits
    if first == "model" or _runs(subject, on_model) or not _runs(subject, on_logits):
        return on_model
    return on_logits


def _runs(subject: Subject, scorer: Scorer) -> bool:
    ids = torch.zeros(1, subject.shortest, dtype=torch.long, device=subject.device)
    try:
        with subject.running() as model:
            scorer.called(subject.called(ids) if scorer.on_logits else model, ids)
    except (Exception, SystemExit):  # code from outside assay may raise anything on arguments it does not take
        return False
    return True


def _first_name(name: str, score: Callable[..., Any]) -> str:
    """The name of a score's first parameter; a RequestError of one line where it cannot take two arguments."""
    try:
        signature = inspect.signature(score)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return ""
    parameters = list(signature.parameters.values())
    try:
        signature.bind(None, None)
    except TypeError:
        needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        count = len(needed) if len(needed) > 2 else len(parameters)
        raise RequestError(f"{name}: takes {count} arguments; (model, ids) or (logits, ids) would do") from None
    return parameters[0].name


def _own_loss(model: nn.Module, ids: Tensor) -> Tensor:
    assert isinstance(model, LanguageModel)
    hidden, _ = model.hidden(ids[:, :-1])
    return token_nats(hidden.flatten(0, 1), model.head_weight, ids[:, 1:].flatten())
