"""One optimizer step: gradients over the micro-batches of a batch, clipping, AdamW."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from assay.layers.auxiliary import collected_losses
from assay.layers.randomness import drawing_from
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.ops.cross_entropy import summed_nats
from assay.seeding import derive
from assay.training.config import TrainingConfig
from assay.training.optim import learning_rate


class TakenStep(NamedTuple):
    """What a step found; where `finite` is False the loss or its gradient was not, and the weights stayed."""

    nats_per_token: float
    auxiliary: dict[str, float]
    """The losses that layers declare, weighted, as they were added to the cross-entropy."""
    gradient_norm: float
    """Before clipping."""
    finite: bool


def take_step(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batch: np.ndarray,
    config: TrainingConfig,
    plan: ExecutionPlan,
    seed: int,
    step: int,
    replicate: int = 0,
) -> TakenStep:
    """Train `model` on one batch of ids [batch_size, context + 1], at the learning rate of `step`."""
    nats, auxiliary = accumulate_gradients(model, batch, config, plan, seed, step, replicate)
    norm = clip_gradients(model, config.clip_norm)
    finite = math.isfinite(nats) and math.isfinite(norm)
    if finite:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return TakenStep(nats, auxiliary, norm, finite)


def accumulate_gradients(
    model: LanguageModel,
    batch: np.ndarray,
    config: TrainingConfig,
    plan: ExecutionPlan,
    seed: int,
    step: int,
    replicate: int = 0,
) -> tuple[float, dict[str, float]]:
    """Gradients of the mean nats per token and the auxiliary losses over the whole batch, by micro-batches.

    Returns both means. Layers draw from a generator of (seed, step, micro-batch, replicate), so there is none to save.
    """
    rows = (config.micro_batch_tokens or config.batch_tokens) // config.context
    total, auxiliary = 0.0, dict[str, float]()
    model.train()
    for index, part in enumerate(torch.from_numpy(batch).to(plan.device).split(rows)):
        share = part[:, 1:].numel() / config.batch_tokens
        generator = torch.Generator(plan.device)
        generator.manual_seed(derive(seed, "dropout", step, index, replicate=replicate))
        with plan.autocast(), drawing_from(generator), collected_losses() as losses:
            hidden, _ = model.hidden(part[:, :-1])
            targets = part[:, 1:].reshape(-1)
            nats = summed_nats(hidden.flatten(0, 1), model.head_weight, targets) / config.batch_tokens
            loss = sum((value * share for value in losses.values()), nats)
        loss.backward()
        total += nats.item()
        for name, value in losses.items():
            auxiliary[name] = auxiliary.get(name, 0.0) + value.item() * share
    return total, auxiliary


def clip_gradients(model: nn.Module, clip_norm: float | None) -> float:
    """Scale the gradients down to a norm of `clip_norm` where one is given; return the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm.item()
