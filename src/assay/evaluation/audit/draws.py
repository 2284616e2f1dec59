"""Random draws made steady, to tell what depends on tokens from what depends on how many numbers were drawn.

A layer that draws as many numbers as a token calls for moves every draw after it, of earlier positions too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.evaluation.audit.dropout import DROPOUTS
from assay.evaluation.audit.generators import seed_generators

HELD = 0.6
"""What a held draw is; not 0, so that what multiplies a draw still shows."""
_FILLED = {torch.rand, torch.randn, torch.normal, torch.rand_like, torch.randn_like}
_IN_PLACE = {Tensor.uniform_: HELD, Tensor.normal_: HELD, Tensor.exponential_: 1.0, Tensor.cauchy_: HELD}
_BERNOULLI = {torch.bernoulli, Tensor.bernoulli}
_MULTINOMIAL = {torch.multinomial, Tensor.multinomial}
_INTEGERS = {torch.randint, torch.randint_like, torch.randperm, Tensor.random_}
_RANDOM: set[Any] = {
    *(_FILLED | _BERNOULLI | _MULTINOMIAL | _INTEGERS | DROPOUTS),
    *(_IN_PLACE.keys() | {Tensor.bernoulli_, F.gumbel_softmax, F.scaled_dot_product_attention}),
}


class ReseededDraws(TorchFunctionMode):
    """The n-th random function that is called draws from seed n, however many numbers were drawn before."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RANDOM:
            self._seed += 1
            seed_generators(self._seed)
        return func(*args, **(kwargs or {}))


class HeldDraws(TorchFunctionMode):
    """Random functions of floating numbers return constants."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLED:
            return func(*args, **kwargs).detach().fill_(HELD)
        if func in _IN_PLACE:
            return args[0].fill_(_IN_PLACE[func])
        if func in _BERNOULLI:
            return (args[0] > 1 - HELD).to(args[0].dtype)
        if func is Tensor.bernoulli_:
            chance = torch.as_tensor(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
            return args[0].copy_(chance > 1 - HELD)
        if func in _MULTINOMIAL:
            count = args[1] if len(args) > 1 else kwargs.get("num_samples", 1)
            return args[0].topk(count, dim=-1).indices
        if func is F.gumbel_softmax:
            kwargs.pop("eps", None)
            return _without_noise(*args[:3], **kwargs)
        return func(*args, **kwargs)


def _without_noise(logits: Tensor, tau: float = 1, hard: bool = False, dim: int = -1) -> Tensor:
    soft = (logits / tau).softmax(dim)
    return F.one_hot(soft.argmax(dim), soft.shape[dim]).to(soft).movedim(-1, dim) if hard else soft
