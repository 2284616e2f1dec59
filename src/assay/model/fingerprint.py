"""Whether a model is as it was: its weights and buffers, its modes, its hooks."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Fingerprint(NamedTuple):
    """Two of one model differ where something about it was changed in between, whichever way."""

    weights: tuple[int, ...]
    """Of each parameter and buffer: which tensor it is, how often it was written to, and the sum of its bytes."""
    modes: tuple[bool, ...]
    """Which modules are in training mode."""
    hooks: int
    """How many there are."""


@torch.no_grad()
def fingerprint(model: nn.Module) -> Fingerprint:
    """That of `model` now. A write past autograd's counting, as through `.data`, changes the bytes."""
    modules = list(model.modules())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
    weights = tuple(
        number for tensor in (*model.parameters(), *model.buffers()) for number in (id(tensor), *_content(tensor))
    )
    return Fingerprint(weights, tuple(module.training for module in modules), hooks)


def _content(tensor: Tensor) -> tuple[int, int]:
    held = tensor.detach().contiguous()
    return tensor._version, int(held.flatten().view(torch.uint8).sum(dtype=torch.int64))
