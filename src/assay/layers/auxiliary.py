"""Losses besides the cross-entropy, which layers declare as they run and the objective returns.

They travel in the mapping `shared` that a call of the model passes from layer to layer, under names of their own, which
no layer reads.
"""

from torch import Tensor

from assay.layers.mixer import Shared

PREFIX = "auxiliary_loss."


def add_loss(shared: Shared | None, name: str, value: Tensor) -> None:
    """Add a scalar, already weighted, a mean over the tokens of the call; without `shared` nobody listens."""
    if shared is not None:
        key = PREFIX + name
        shared[key] = shared[key] + value if key in shared else value


def auxiliary_losses(shared: Shared) -> dict[str, Tensor]:
    """{name: sum over layers} of what layers added in a call."""
    return {key.removeprefix(PREFIX): value for key, value in shared.items() if key.startswith(PREFIX)}
