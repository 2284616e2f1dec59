"""A copy of a model with every parameter drawn anew: zero-initialised projections would hide every leak behind them."""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

SHUT = 4.0
"""A vector whose values all equal one number of at least this size opens or shuts a gate for good."""

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def redrawn(model: Model, generator: torch.Generator) -> Model:
    """A copy of `model` with every floating-point parameter redrawn; integer parameters stay.

    Matrices are drawn from N(0, 1 / fan_in), fan_in being the size of the last axis. Biases of linear layers and
    convolutions, and vectors of one large value, become 0.1 N(0, 1). Other vectors keep their values plus 0.1 N(0, 1).
    So gains become 1 + 0.1 N(0, 1), no bias shuts a gate for good, and decays stay spread over their range.
    """
    model = copy.deepcopy(model)
    for parameter, values in draws(model, list(model.parameters()), generator):
        parameter.copy_(values)
    return model


@torch.no_grad()
def draws(
    model: nn.Module, parameters: Sequence[nn.Parameter], generator: torch.Generator
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """(parameter, new values) for each floating-point one among `parameters`, in their order."""
    maps = [module for module in model.modules() if isinstance(module, nn.Linear | _ConvNd)]
    biases = {id(module.bias) for module in maps}
    for parameter in filter(torch.is_floating_point, parameters):
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if parameter.ndim >= 2:
            yield parameter, noise / math.sqrt(parameter.shape[-1])
        else:
            own = parameter.detach()
            shuts = id(parameter) in biases or (
                own.numel() > 0 and bool((own == own.max()).all()) and own.max().abs() >= SHUT
            )
            yield parameter, 0.1 * noise + (0 if shuts else own)
