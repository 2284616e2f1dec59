"""Gradients of the loss by parameter, over many batches: their size, what they agree in, and the step they make.

The model is in evaluation mode, so that nothing is dropped. Shapes: M batches, N sequences, T tokens.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from assay.evaluation.inside.sequences import evaluating
from assay.model.lm import LanguageModel
from assay.model.optimizer_roles import optimizer_roles
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import summed_nats
from assay.targets import IGNORED
from assay.training.config import TrainingConfig


class TokenBatch(NamedTuple):
    """Inputs and targets of one batch; IGNORED where nothing is asked."""

    inputs: Int[np.ndarray, "N T"]
    targets: Int[np.ndarray, "N T"]


class ParameterGradient(NamedTuple):
    """Squared norms of one parameter, float64."""

    name: str
    numbers: int
    batches: np.ndarray
    """[M] of the gradient of each batch."""
    mean: float
    """Of the mean gradient over the batches."""
    weight: float
    step: float | None
    """Of what AdamW changes with the moments of these batches; None where another optimizer trains it."""


def read_gradients(
    model: LanguageModel,
    batches: Sequence[TokenBatch],
    plan: ExecutionPlan,
    training: TrainingConfig | None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[ParameterGradient]:
    """Of the mean nats per scored target of each batch; every parameter once."""
    roles = list(optimizer_roles(model))
    parameters = [parameter for _, parameter, _ in roles]
    sums = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
    squares = [torch.zeros_like(p, dtype=torch.float32) for p in parameters] if training is not None else []
    norms = np.zeros((len(batches), len(parameters)))
    with evaluating(model):
        for number, batch in enumerate(batches):
            tell(f"gradients: batch {number} of {len(batches)}")
            gradients = _gradients(model, parameters, batch, plan)
            for index, gradient in enumerate(gradients):
                if gradient is None:
                    continue
                norms[number, index] = float(gradient.double().square().sum())
                sums[index] += gradient
                if squares:
                    squares[index] += gradient.float().square()
    found = []
    for index, (name, parameter, role) in enumerate(roles):
        mean = sums[index] / len(batches)
        step = None
        if training is not None and not (training.optimizer == "muon" and role.matrix):
            rate = training.learning_rate * (role.rate_factor if training.layer_rates else 1.0)
            decay = training.weight_decay if role.decay or training.decay_all else 0.0
            moments = mean / ((squares[index] / len(batches)).sqrt() + training.epsilon)
            change = moments + decay * parameter.detach()
            step = rate**2 * float(change.double().square().sum())
        weight = float(parameter.detach().double().square().sum())
        squared = float(mean.double().square().sum())
        found.append(ParameterGradient(name, parameter.numel(), norms[:, index], squared, weight, step))
    return found


def _gradients(
    model: LanguageModel, parameters: Sequence[Tensor], batch: TokenBatch, plan: ExecutionPlan
) -> tuple[Tensor | None, ...]:
    inputs, targets = (torch.from_numpy(np.ascontiguousarray(part)).to(plan.device) for part in batch)
    with torch.enable_grad(), plan.autocast():
        hidden, _ = model.hidden(inputs)
        nats = summed_nats(hidden.flatten(0, 1), model.head_weight, targets.flatten())
        loss = nats / max(1, int((targets != IGNORED).sum()))
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, parameters, allow_unused=True)
    return gradients


class Agreement(NamedTuple):
    """What the batches of a group of parameters have in common."""

    norms: np.ndarray
    """[M] of each batch."""
    signal: float
    """Squared norm of the true gradient, estimated without bias; it may be negative."""
    noise: float
    """Summed variance of one batch's gradient."""


def agreement(parts: Sequence[ParameterGradient]) -> Agreement:
    """Of a group (McCandlish et al. 2018, appendix A.1, with batches that are all of one size); noise NaN for M = 1."""
    squares = np.sum([part.batches for part in parts], axis=0)
    mean = sum(part.mean for part in parts)
    m = len(squares)
    noise = (float(squares.sum()) - m * mean) / (m - 1) if m > 1 else math.nan
    return Agreement(np.sqrt(squares), mean - noise / m, noise)
