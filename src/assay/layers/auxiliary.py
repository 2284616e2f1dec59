"""Losses besides the cross-entropy, which layers declare as they run and the one training loop adds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_losses: ContextVar[dict[str, Tensor] | None] = ContextVar("assay_auxiliary_losses", default=None)


@contextmanager
def collected_losses() -> Iterator[dict[str, Tensor]]:
    """Collect {name: sum over layers} of what layers add inside the block."""
    losses: dict[str, Tensor] = {}
    token = _losses.set(losses)
    try:
        yield losses
    finally:
        _losses.reset(token)


def losses_are_collected() -> bool:
    """Whether anybody listens: a layer need not compute what nobody adds."""
    return _losses.get() is not None


def add_loss(name: str, value: Tensor) -> None:
    """Add a scalar, already weighted, a mean over the tokens of the call; without a listener nothing happens."""
    losses = _losses.get()
    if losses is not None:
        losses[name] = losses[name] + value if name in losses else value
