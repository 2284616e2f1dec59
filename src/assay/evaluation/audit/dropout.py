"""Switching dropout off without leaving training mode, so that nothing else may tell the two modes apart."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_DROPOUTS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.dropout_, torch.alpha_dropout, torch.alpha_dropout_),
    *(torch.feature_dropout, torch.feature_dropout_, torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
}
_ITERATIONS = "n_power_iterations"
_ATTENTION_DROPOUT = 4
"""The place of `dropout_p` among the arguments of scaled_dot_product_attention."""


class _WithoutDropout(TorchFunctionMode):
    """Calls of torch's dropout functions return their input."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            if len(args) > _ATTENTION_DROPOUT:
                args = (*args[:_ATTENTION_DROPOUT], 0.0, *args[_ATTENTION_DROPOUT + 1 :])
            else:
                kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Probabilities of dropping are 0 inside the block: of torch's functions, and of what modules call dropping.

    A module's own: a float attribute with "drop" in its name, or called `p` in a class with "Drop" in its name.
    Spectral norms keep the estimate that they have: in training mode they refine it at each call, whatever the tokens.
    """
    kept: list[tuple[object, str, object]] = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if _is_probability(module, name, value)
    ]
    kept += [(owner, _ITERATIONS, getattr(owner, _ITERATIONS)) for owner in _spectral_norms(model)]
    for owner, name, value in kept:
        setattr(owner, name, type(value)())  # 0.0, or no iterations
    try:
        with _WithoutDropout():
            yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _is_probability(module: nn.Module, name: str, value: object) -> bool:
    if not isinstance(value, float) or not 0 < value <= 1:
        return False
    return "drop" in name.lower() or (name == "p" and "drop" in type(module).__name__.lower())


def _spectral_norms(model: nn.Module) -> Iterator[object]:
    """Modules, as torch's parametrizations are, and hooks, as its older `spectral_norm` leaves."""
    for module in model.modules():
        for owner in (module, *module._forward_pre_hooks.values()):
            if _ITERATIONS in getattr(owner, "__dict__", {}):
                yield owner
