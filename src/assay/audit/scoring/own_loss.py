"""The loss that a model returns for labels, under whatever name its `forward` takes them.

Shapes: B rows, T tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.calling.labels import Labels, labels_of, parts_of, shifted_by_caller
from assay.audit.scoring.readings import cross_entropy, reductions
from assay.audit.subject.subject import RaisedError, Subject

OwnLoss = Callable[[nn.Module, Tensor], Any]
"""From (model, ids [B, T]) to nats of tokens 1 to T - 1."""
CLOSE = 1e-5
IGNORED = (-100, -1)
"""The usual labels of places that a loss leaves out."""


def own_loss(subject: Subject) -> tuple[Labels, OwnLoss] | None:
    """The argument that takes labels, and the loss of the next tokens through it; None where there is no loss.

    A model may shift its labels itself, as those of transformers do under `labels`, or take next tokens as labels.
    Under other names that is tried: the way in which the loss is the cross-entropy of the logits, else next tokens.
    """
    for way in labels_of(subject.model, subject.callings[False].targets):
        if way.name == "labels" and way.certain:
            return way, partial(_shifting_itself, way, subject.outputs)
        ways: list[OwnLoss] = [partial(_of_next_tokens, way, subject.outputs)]
        if not subject.takes.every:
            ways = [partial(_of_ignoring, way, subject.outputs, fill) for fill in IGNORED]
        ways.append(partial(_shifting_itself, way, subject.outputs))
        found = [loss for loss in ways if _gives(subject, loss)]
        fitting = [loss for loss in found if _fits(subject, loss)]
        if found:
            return way, (fitting or found)[0]
    return None


def _shifting_itself(way: Labels, width: int, model: nn.Module, ids: Tensor) -> Any:
    output = way.call(model, ids, ids)
    loss = _loss_in(output, ids, width)
    added = output.get("aux_loss") if isinstance(output, Mapping) else getattr(output, "aux_loss", None)
    weight = getattr(getattr(model, "config", None), "router_aux_loss_coef", None)
    if isinstance(loss, Tensor) and isinstance(added, Tensor) and isinstance(weight, float):
        return loss - weight * added
    return loss


def _of_next_tokens(way: Labels, width: int, model: nn.Module, ids: Tensor) -> Any:
    return _loss_in(way.call(model, ids[:, :-1], ids[:, 1:].contiguous()), ids[:, :-1], width)


def _of_ignoring(way: Labels, width: int, fill: int, model: nn.Module, ids: Tensor) -> Any:
    return _loss_in(way.call(model, ids, shifted_by_caller(ids, fill)), ids, width)


def _loss_in(output: Any, ids: Tensor, width: int) -> Any:
    """The loss in what a model returned; in a tuple the only number where there are several kinds of tensors."""
    if isinstance(output, Mapping) and "loss" in output:
        return output["loss"]
    return output.loss if hasattr(output, "loss") else parts_of(output, ids, width)[1]


def _tried(subject: Subject, loss: OwnLoss) -> tuple[Tensor, Tensor | None]:
    length = subject.takes.fit(min(12, subject.longest))
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(subject.vocab_size, (2, length), generator=generator).to(subject.device)
    try:
        with subject.running(dropout=False) as model:
            nats = loss(model, ids)
    except RaisedError:
        return ids, None
    return ids, nats if isinstance(nats, Tensor) and bool(nats.isfinite().all()) else None


def _gives(subject: Subject, loss: OwnLoss) -> bool:
    return _tried(subject, loss)[1] is not None


def _fits(subject: Subject, loss: OwnLoss) -> bool:
    """Whether the loss is the cross-entropy of the next tokens."""
    ids, nats = _tried(subject, loss)
    expected = cross_entropy(subject.logits(ids, dropout=False).double(), ids)
    if nats is None or nats.numel() != 1:
        return nats is not None and nats.numel() == expected.numel()
    return bool(reductions(nats.double().reshape(()), expected, CLOSE))
