"""One optimizer step: gradients over the micro-batches of a batch, clipping, the optimizer."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from assay.data.batches import Batch
from assay.seeding import derive
from assay.training.config import TrainingConfig
from assay.training.optim import learning_rate, set_rate

_NATS = ""
"""Where the cross-entropy stands among losses by name."""
_CLIP_EPSILON = 1e-6
"""What torch adds to the norm that it divides by: with it at or below the limit, the factor is 1."""


class MicroBatch(NamedTuple):
    """The arguments of one call of the objective: a part of a batch, and the seed of its random draws."""

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    seed: Int[Tensor, ""]


class MeanLosses(NamedTuple):
    """The losses of one batch: nats a mean over its scored targets, auxiliary losses over all its tokens."""

    nats: float
    auxiliary: dict[str, float]
    """The auxiliary losses of layers, weighted, as they were added to the cross-entropy."""


class TakenStep(NamedTuple):
    """The result of a step; where `finite` is False the loss or its gradient was not, and no weight was changed."""

    losses: MeanLosses
    gradient_norm: float
    """The norm of the gradient before clipping."""
    finite: bool


def micro_batches(
    batch: Batch, config: TrainingConfig, device: str, seed: int, step: int, replicate: int = 0
) -> list[MicroBatch]:
    """The parts of the batch of `step`; each has its own seed, which follows from (seed, step, part, replicate)."""
    rows = (config.micro_batch_tokens or config.batch_tokens) // config.context
    inputs, targets = (torch.from_numpy(part).to(device).split(rows) for part in batch)
    seeds = [derive(seed, "dropout", step, index, replicate=replicate) for index in range(len(inputs))]
    return [MicroBatch(*part) for part in zip(inputs, targets, torch.tensor(seeds, device=device), strict=True)]


def take_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[MicroBatch],
    scored: float,
    config: TrainingConfig,
    step: int,
) -> TakenStep:
    """Train on one batch in `parts`, with `scored` targets, at the learning rate of `step`."""
    losses = accumulate_gradients(objective, parts, scored)
    norm = clip_gradients(objective, config.clip_norm)
    finite = math.isfinite(losses.nats) and math.isfinite(norm)
    if finite:
        set_rate(optimizer, learning_rate(config, step))
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return TakenStep(losses, norm, finite)


def accumulate_gradients(objective: nn.Module, parts: Sequence[MicroBatch], scored: float) -> MeanLosses:
    """Accumulate gradients of the mean nats per scored target and of the auxiliary losses over all `parts`.

    Returns both means. `objective` is an Objective or a wrapper of one. Where several processes average their
    gradients, each passes its own parts and, as `scored`, the targets of the whole batch divided by the number of
    processes.
    """
    objective.train()
    names: list[str] = []
    found: list[Tensor] = []
    tokens = sum(part.inputs.numel() for part in parts)
    for part in parts:
        outcome = objective(*part)
        share = part.inputs.numel() / tokens
        loss = outcome.nats / scored
        for value in outcome.auxiliary.values():
            loss = loss + value * share
        loss.backward()
        names += [_NATS, *outcome.auxiliary]
        found += [outcome.nats.detach() / scored, *(value.detach() * share for value in outcome.auxiliary.values())]
    # Read once, behind the last part: each reading makes the processor wait for the device.
    means = dict.fromkeys(names, 0.0)
    for name, value in zip(names, torch.stack(found).tolist(), strict=True):
        means[name] += value
    return MeanLosses(means.pop(_NATS), means)


def clip_gradients(model: nn.Module, clip_norm: float | None) -> float:
    """Scale the gradients down to a norm of at most `clip_norm`, if it is given; return the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    read = norm.item()
    if clip_norm is not None and not read + _CLIP_EPSILON <= clip_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return read
