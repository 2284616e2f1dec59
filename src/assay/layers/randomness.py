"""Where stochastic layers draw from: a generator that the caller gives, never torch's global one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

_generator: ContextVar[torch.Generator | None] = ContextVar("assay_generator", default=None)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside the block every stochastic layer draws from `generator`: the same seed gives the same masks."""
    token = _generator.set(generator)
    try:
        yield
    finally:
        _generator.reset(token)


class Masking(nn.Module):
    """Draws masks from the surrounding `drawing_from`, else from a generator of its own, seeded with 0."""

    def __init__(self) -> None:
        super().__init__()
        self._own: torch.Generator | None = None

    def keep(self, shape: Sequence[int], drop: float, like: Tensor) -> Tensor:
        """A mask of `shape`: zero with probability `drop`, else 1 / (1 - drop); type and device of `like`."""
        generator = _generator.get()
        if generator is None:
            self._own = self._own or torch.Generator().manual_seed(0)
            generator = self._own
        draws = torch.rand(shape, generator=generator, device=generator.device)
        return (draws >= drop).to(like) / (1 - drop)


class Dropout(Masking):
    """x * mask / (1 - p) in training, x otherwise (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return x * self.keep(x.shape, self.p, x) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
