"""Token shift: every token mixed with the one before it (Peng et al. 2023, arXiv:2305.13048, section 3.1).

    y_s,t = x_t + share_s (x_{t-1} - x_t)

with `last`, the input before the first token, or zeros, as x_{-1}.

Shapes: B batch, T tokens, D channels, S mixtures of the same input.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from assay.ops.execution import product_dtype
from assay.ops.opaque import Differentiable
from assay.ops.token_shift_native import TOKEN_SHIFT_NATIVE


def token_shift(
    x: Float[Tensor, "B T D"], last: Float[Tensor, "B D"] | None, shares: Float[Tensor, "S D"]
) -> Float[Tensor, "S B T D"]:
    """The mixtures for all shares at once, in the type of the products that follow.

    In eager on a CPU its gradient is by hand, first derivatives only; compilers fuse what torch composes.
    """
    shares = shares.to(product_dtype(x))
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return mixtures(x, shift_difference(x, last), shares[:, None, None])
    last = torch.zeros_like(x[:, 0]) if last is None else last.to(x.dtype)
    (y,) = _token_shift(shares, x, last)
    return y


def shift_difference(x: Float[Tensor, "B T D"], last: Float[Tensor, "B D"] | None) -> Float[Tensor, "B T D"]:
    """x_{t-1} - x_t, where x_{-1} is `last`, or zeros for None."""
    first = torch.zeros_like(x[:, :1]) if last is None else last.to(x.dtype).unsqueeze(1)
    return torch.cat((first, x[:, :-1]), 1) - x


def mixtures(
    x: Float[Tensor, "B T D"], difference: Float[Tensor, "B T D"], shares: Float[Tensor, "S #B #T D"]
) -> Float[Tensor, "S B T D"]:
    """x + difference * share for each of S shares, which may differ by token, in the type of the products to come."""
    return _mixed(x, difference, shares.to(product_dtype(x)))


def _mixed(x: Tensor, difference: Tensor, shares: Tensor) -> Tensor:
    return torch.addcmul(x.to(shares.dtype), difference.to(shares.dtype), shares)


def _forward(shares: Tensor, x: Tensor, last: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (_mixed(x, shift_difference(x, last), shares[:, None, None]),), ()


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """At x_t the sum over shares of (1 - share) dy_t + share dy_{t+1}; at a share that of dy_t (x_{t-1} - x_t)."""
    (dy,), (shares, x, last) = gradients, saved
    wide = torch.promote_types(torch.promote_types(x.dtype, dy.dtype), torch.float32)
    dy = dy.to(wide)
    to_before = torch.einsum("sbtd,sd->btd", dy, shares.to(wide))
    dx = dy.sum(0).sub_(to_before)
    dx[:, :-1] += to_before[:, 1:]
    d_shares = torch.einsum("sbtd,btd->sd", dy, shift_difference(x, last).to(wide))
    return d_shares.to(shares.dtype), dx.to(x.dtype), to_before[:, 0].to(last.dtype)


_token_shift = Differentiable("token_shift", _forward, _gradient, outputs=1, keeps=(0, 1, 2), native=TOKEN_SHIFT_NATIVE)
