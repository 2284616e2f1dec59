"""A copy of a model with every parameter drawn anew, because zero-initialised projections hide everything."""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def redrawn(model: Model, generator: torch.Generator) -> Model:
    """Matrices from N(0, 1 / fan_in), fan_in being the last axis; vectors keep their own draw plus 0.1 N(0, 1).

    So gains become 1 + 0.1 N, biases 0.1 N, and decays stay spread over their range. Whole numbers are no weights.
    """
    model = copy.deepcopy(model)
    for parameter in filter(torch.is_floating_point, model.parameters()):
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if parameter.ndim >= 2:
            parameter.copy_(noise / math.sqrt(parameter.shape[-1]))
        else:
            parameter.add_(0.1 * noise)
    return model
