"""Fixed numbers in place of torch's random draws, to tell a dependence on tokens from one on how many were drawn.

Where a token changes how many numbers a layer draws, every later draw from the generator changes as well, those for
earlier positions included, though nothing leaks.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.audit.subject.dropout import DROPOUTS

HELD = 0.6
"""The number that stands for every draw in `held`; not 0, so that what is multiplied by it still shows."""
GOLDEN = (math.sqrt(5) - 1) / 2

Source = Callable[[Tensor], Tensor]
"""A function from a tensor to one of the same shape with numbers between 0 and 1."""


def held(like: Tensor) -> Tensor:
    """The same number for every element."""
    return torch.full(like.shape, HELD, dtype=_floating(like), device=like.device)


def patterned(like: Tensor) -> Tensor:
    """Evenly spread numbers. The n-th is the same in every call, however many there are: earlier positions keep it."""
    places = torch.arange(1, like.numel() + 1, dtype=torch.float64, device=like.device)
    return (0.5 + GOLDEN * places).frac().to(_floating(like)).view(like.shape)


class SteadyDraws(TorchFunctionMode):
    """Inside the block torch's random functions for floating-point numbers take them from `source` instead."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _STEADY:
            first = (kwargs.pop("input"),) if "input" in kwargs else ()
            return _STEADY[func](self._source, *first, *args, **kwargs)
        if func in _MADE:
            made = func(*args, **kwargs).detach()
            return made.copy_(_MADE[func](self._source(made)))
        if func in DROPOUTS and func is not F.dropout:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def _floating(like: Tensor) -> torch.dtype:
    return like.dtype if like.is_floating_point() else torch.get_default_dtype()


def _normal(u: Tensor) -> Tensor:
    return math.sqrt(2) * torch.erfinv(2 * u.clamp(1e-6, 1 - 1e-6) - 1)


def _gumbel(u: Tensor) -> Tensor:
    return -(-u.clamp(1e-6, 1 - 1e-6).log()).log()


def _dropout(source: Source, x: Tensor, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> Tensor:
    return x * (source(x) >= p) / max(1 - p, 1e-6) if training else x


def _rrelu(
    source: Source, x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *_: Any, **__: Any
) -> Tensor:
    slope = lower + (upper - lower) * source(x) if training else (lower + upper) / 2
    return torch.where(x < 0, slope * x, x)


def _bernoulli(source: Source, x: Tensor, p: float | None = None, **_: Any) -> Tensor:
    return (source(x) < (x if p is None else p)).to(x.dtype)


def _bernoulli_(source: Source, x: Tensor, p: Any = 0.5, **_: Any) -> Tensor:
    return x.copy_(source(x) < p)


def _uniform_(source: Source, x: Tensor, low: float = 0.0, high: float = 1.0, **_: Any) -> Tensor:
    return x.copy_(low + (high - low) * source(x))


def _normal_(source: Source, x: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return x.copy_(mean + std * _normal(source(x)))


def _exponential_(source: Source, x: Tensor, lambd: float = 1.0, **_: Any) -> Tensor:
    return x.copy_(-(1 - source(x)).log() / lambd)


def _multinomial(source: Source, x: Tensor, num_samples: int, *_: Any, **__: Any) -> Tensor:
    return (x.log() + _gumbel(source(x))).topk(num_samples, dim=-1).indices


def _gumbel_softmax(
    source: Source, logits: Tensor, tau: float = 1, hard: bool = False, _: float = 0.0, dim: int = -1, **__: Any
) -> Tensor:
    soft = ((logits + _gumbel(source(logits))) / tau).softmax(dim)
    return F.one_hot(soft.argmax(dim), soft.shape[dim]).to(soft).movedim(-1, dim) if hard else soft


_MADE: dict[Any, Callable[[Tensor], Tensor]] = {
    torch.rand: lambda u: u,
    torch.rand_like: lambda u: u,
    torch.randn: _normal,
    torch.randn_like: _normal,
}
_STEADY: dict[Any, Callable[..., Tensor]] = {
    F.dropout: _dropout,
    F.rrelu: _rrelu,
    F.gumbel_softmax: _gumbel_softmax,
    torch.bernoulli: _bernoulli,
    Tensor.bernoulli: _bernoulli,
    Tensor.bernoulli_: _bernoulli_,
    Tensor.uniform_: _uniform_,
    Tensor.normal_: _normal_,
    Tensor.exponential_: _exponential_,
    torch.multinomial: _multinomial,
    Tensor.multinomial: _multinomial,
}
