"""Auxiliary losses: losses besides the cross-entropy, which layers add during a forward pass and the objective returns.

They travel in the mapping `shared` that a call of the model passes from layer to layer, under a prefix that no layer
reads.
"""

from torch import Tensor

from assay.layers.mixer import Shared

PREFIX = "auxiliary_loss."


def add_loss(shared: Shared | None, name: str, value: Tensor) -> None:
    """Add `value`, a mean over the call's tokens times its weight, to the loss `name`; nothing if `shared` is None."""
    if shared is not None:
        key = PREFIX + name
        shared[key] = shared[key] + value if key in shared else value


def auxiliary_losses(shared: Shared) -> dict[str, Tensor]:
    """{name: value summed over layers} of every loss that layers added during one call."""
    return {key.removeprefix(PREFIX): value for key, value in shared.items() if key.startswith(PREFIX)}
