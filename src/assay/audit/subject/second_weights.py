"""A second set of weights for a subject, redrawn: zero-initialised projections would hide every leak behind them."""

import torch
from torch import Tensor

from assay.audit.redraw import draws
from assay.audit.subject.memory import Memory
from assay.audit.subject.subject import RaisedError, Subject

SHUT = 1e4
"""A value as large as this, or an infinity, masks what it is added to."""


def add_redrawn(subject: Subject, seed: int) -> None:
    """Give the copy a second set of parameters, as `audit.redraw` draws them, and leave it with the first in use.

    Frozen parameters keep their values (unless all are frozen), and so do masks that are stored as parameters, as they
    are not weights.
    """
    subject.use("given")
    parameters = [parameter for parameter in subject.model.parameters() if parameter.requires_grad]
    parameters = parameters or list(subject.model.parameters())
    masks = {id(mask) for mask in _masks(subject, [p for p in parameters if _has_two_values(p)])}
    parameters = [parameter for parameter in parameters if id(parameter) not in masks]
    for parameter, values in draws(subject.model, parameters, torch.Generator().manual_seed(seed)):
        parameter.data = values
    subject.memories["redrawn"] = Memory(subject.model)
    subject.use("given")


def _has_two_values(parameter: Tensor) -> bool:
    """Whether the parameter has exactly two different values, as masks have."""
    values = parameter.detach()
    if not values.is_floating_point() or values.ndim < 2 or values.numel() < 4:
        return False
    low, high = values.amin(), values.amax()
    return bool(low < high) and bool(((values == low) | (values == high)).all())


def _masks(subject: Subject, suspects: list[Tensor]) -> list[Tensor]:
    """Those of `suspects` that are masks: they hold a value as large as SHUT, or no gradient reaches them."""
    shut = [suspect for suspect in suspects if bool(suspect.detach().abs().amax() >= SHUT)]
    others = [suspect for suspect in suspects if all(suspect is not mask for mask in shut)]
    trained = [suspect for suspect in others if suspect.requires_grad]
    if not trained:
        return suspects
    ids = torch.zeros(1, subject.shortest, dtype=torch.long, device=subject.device)
    try:
        with subject.running(gradients=True):
            logits = subject.called(ids)
    except RaisedError:  # no backward on this machine
        return suspects
    if not logits.requires_grad:
        return suspects
    gradients = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    return [*shut, *(suspect for suspect, gradient in zip(trained, gradients, strict=True) if gradient is None)]
