"""Switching dropout off without leaving training mode, so that eval and training mode can be compared."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

DROPOUTS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.dropout_, torch.alpha_dropout, torch.alpha_dropout_),
    *(torch.feature_dropout, torch.feature_dropout_, torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
}
_ITERATIONS = "n_power_iterations"
_ATTENTION_DROPOUT = 4
"""The index of `dropout_p` among the positional arguments of scaled_dot_product_attention."""


class _WithoutDropout(TorchFunctionMode):
    """Calls of torch's dropout functions return their input."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            if len(args) > _ATTENTION_DROPOUT:
                args = (*args[:_ATTENTION_DROPOUT], 0.0, *args[_ATTENTION_DROPOUT + 1 :])
            else:
                kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside the block dropout probabilities are 0: those of torch's functions, and those that modules hold.

    A module's attribute is taken for one if it is a float with "drop" in its name, or called `p` in a class with "Drop"
    in its name.
    """
    kept = [(module, name, value) for module in model.modules() for name, value in vars(module).items()]
    kept = [(module, name, value) for module, name, value in kept if _is_probability(module, name, value)]
    with _set([(module, name, 0.0) for module, name, _ in kept]), _WithoutDropout():
        yield


def estimates_kept(model: nn.Module) -> AbstractContextManager[None]:
    """Inside the block spectral norms keep their estimate, which in training mode they refine at each call.

    Both of torch's implementations: the parametrization, a module, and the older `spectral_norm`, a hook.
    """
    owners = [owner for module in model.modules() for owner in (module, *module._forward_pre_hooks.values())]
    return _set([(owner, _ITERATIONS, 0) for owner in owners if _ITERATIONS in getattr(owner, "__dict__", {})])


@contextmanager
def _set(changes: list[tuple[object, str, float]]) -> Iterator[None]:
    """Inside the block the attributes in `changes` have the values given there."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, before in kept:
            setattr(owner, name, before)


def _is_probability(module: nn.Module, name: str, value: object) -> bool:
    if not isinstance(value, float) or not 0 < value <= 1:
        return False
    return "drop" in name.lower() or (name == "p" and "drop" in type(module).__name__.lower())
