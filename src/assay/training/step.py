"""One optimizer step: gradients over the micro-batches of a batch, clipping, the optimizer."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from assay.data.batches import Batch
from assay.data.mixing import Portion
from assay.seeding import derive
from assay.training.config import TrainingConfig
from assay.training.optim import learning_rate, set_rate

_NATS = ""
"""Where the cross-entropy stands among losses by name."""
_PORTION = " "
"""What the name of a source of a mixed batch begins with there."""
_CLIP_EPSILON = 1e-6
"""What torch adds to the norm that it divides by: with it at or below the limit, the factor is 1."""


class MicroBatch(NamedTuple):
    """The arguments of one call of the objective: a part of a batch, and the seed of its random draws."""

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    seed: Int[Tensor, ""]


class Share(NamedTuple):
    """What the micro-batches of one source of a mixed batch are divided by."""

    name: str
    scored: int
    """The targets of the source in the whole batch."""
    weight: float | None
    """What their mean weighs in the loss; None: every target of the batch counts alike."""


class MeanLosses(NamedTuple):
    """The losses of one batch: nats a mean over its scored targets, auxiliary losses over all its tokens."""

    nats: float
    auxiliary: dict[str, float]
    """The auxiliary losses of layers, weighted, as they were added to the cross-entropy."""
    portions: dict[str, float]
    """Source of a mixed batch -> nats per target of its rows; empty where there is one source."""


class TakenStep(NamedTuple):
    """The result of a step; where `finite` is False the loss or its gradient was not, and no weight was changed."""

    losses: MeanLosses
    gradient_norm: float
    """The norm of the gradient before clipping."""
    finite: bool


def micro_batches(
    batch: Batch,
    config: TrainingConfig,
    device: str,
    seed: int,
    step: int,
    replicate: int = 0,
    portions: Sequence[Portion] = (),
) -> list[MicroBatch]:
    """The parts of the batch of `step`; each has its own seed, which follows from (seed, step, part, replicate).

    Rows of different `portions` are in different parts.
    """
    most = (config.micro_batch_tokens or config.batch_tokens) // config.context
    rows = [size for portion in portions for size in _cut(portion.rows, most)] or most
    inputs, targets = (torch.from_numpy(part).to(device).split(rows) for part in batch)
    seeds = [derive(seed, "dropout", step, index, replicate=replicate) for index in range(len(inputs))]
    return [MicroBatch(*part) for part in zip(inputs, targets, torch.tensor(seeds, device=device), strict=True)]


def shares_of(batch: Batch, config: TrainingConfig, portions: Sequence[Portion]) -> list[Share]:
    """For each micro-batch of a mixed batch its share; none where the batch is of one source."""
    most = (config.micro_batch_tokens or config.batch_tokens) // config.context
    shares: list[Share] = []
    begin = 0
    for portion in portions:
        scored = Batch(*(part[begin : begin + portion.rows] for part in batch)).scored
        shares += [Share(portion.name, scored, portion.weight)] * len(_cut(portion.rows, most))
        begin += portion.rows
    return shares


def _cut(rows: int, most: int) -> list[int]:
    """The sizes of parts of at most `most` rows."""
    return [min(most, rows - begin) for begin in range(0, rows, most)]


def take_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[MicroBatch],
    scored: float,
    config: TrainingConfig,
    step: int,
    shares: Sequence[Share] = (),
) -> TakenStep:
    """Train on one batch in `parts`, with `scored` targets, at the learning rate of `step`."""
    losses = accumulate_gradients(objective, parts, scored, shares)
    norm = clip_gradients([p for group in optimizer.param_groups for p in group["params"]], config.clip_norm)
    finite = math.isfinite(losses.nats) and math.isfinite(norm)
    if finite:
        set_rate(optimizer, learning_rate(config, step))
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return TakenStep(losses, norm, finite)


def accumulate_gradients(
    objective: nn.Module, parts: Sequence[MicroBatch], scored: float, shares: Sequence[Share] = ()
) -> MeanLosses:
    """Accumulate gradients of the mean nats per scored target and of the auxiliary losses over all `parts`.

    Returns both means. With `shares`, one for each part of a mixed batch, the mean of each source counts with its
    weight, where it has one. `objective` is an Objective or a wrapper of one. Where several processes average their
    gradients, each passes its own parts and, as `scored`, the targets of the whole batch divided by the number of
    processes.
    """
    objective.train()
    names: list[str] = []
    found: list[Tensor] = []
    tokens = sum(part.inputs.numel() for part in parts)
    for number, part in enumerate(parts):
        outcome = objective(*part)
        share = part.inputs.numel() / tokens
        source = shares[number] if shares else None
        divisor = scored if source is None or source.weight is None else source.scored / source.weight
        loss = outcome.nats / divisor
        for value in outcome.auxiliary.values():
            loss = loss + value * share
        loss.backward()
        names += [_NATS, *outcome.auxiliary]
        found += [outcome.nats.detach() / divisor, *(value.detach() * share for value in outcome.auxiliary.values())]
        if source is not None:
            names.append(_PORTION + source.name)
            found.append(outcome.nats.detach() / source.scored)
    # Read once, behind the last part: each reading makes the processor wait for the device.
    means = dict.fromkeys(names, 0.0)
    for name, value in zip(names, torch.stack(found).tolist(), strict=True):
        means[name] += value
    portions = {name: value for name, value in means.items() if name.startswith(_PORTION)}
    auxiliary = {name: value for name, value in means.items() if name != _NATS and name not in portions}
    return MeanLosses(means[_NATS], auxiliary, {name.removeprefix(_PORTION): of for name, of in portions.items()})


def clip_gradients(parameters: Iterable[nn.Parameter], clip_norm: float | None) -> float:
    """Scale the gradients down to a norm of at most `clip_norm`, if it is given; return the norm before."""
    found = [(p, p.grad) for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([gradient for _, gradient in found])
    read = norm.item()
    if clip_norm is not None and not read + _CLIP_EPSILON <= clip_norm:
        torch.nn.utils.clip_grads_with_norm_([p for p, _ in found], clip_norm, norm)
    return read
