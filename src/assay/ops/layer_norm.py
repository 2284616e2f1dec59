"""Layer normalisation (Ba et al. 2016, arXiv:1607.06450), also of groups of channels: torch's own, or one pass in C++
where training has that ready.

Shapes: G groups, D channels of a group.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.ops.layer_norm_native import LAYER_NORM_NATIVE
from assay.ops.opaque import Differentiable


def layer_norm(
    x: Float[Tensor, "*B G D"], weight: Float[Tensor, "G D"], bias: Float[Tensor, "G D"], eps: float
) -> Float[Tensor, "*B G D"]:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis, in float32 or wider, then in x's dtype."""
    if _layer_norm.runs_native(x, weight, bias, option=(eps,)):
        return _layer_norm(x, weight, bias, option=(eps,))[0]
    wide = torch.promote_types(x.dtype, torch.float32)
    weight, bias = weight.to(wide), bias.to(wide)
    if len(weight) == 1:
        return F.layer_norm(x.to(wide), x.shape[-1:], weight[0], bias[0], eps).to(x.dtype)
    return (F.layer_norm(x.to(wide), x.shape[-1:], eps=eps) * weight + bias).to(x.dtype)


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The outputs; the means and 1 / sqrt(var + eps), [*B, G, 2]."""
    wide = torch.promote_types(x.dtype, torch.float32)
    variance, mean = torch.var_mean(x.to(wide), -1, correction=0, keepdim=True)
    kept = torch.cat((mean, (variance + eps).rsqrt()), -1)
    return ((_normed(x, kept) * weight.to(wide) + bias.to(wide)).to(x.dtype),), (kept,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: float) -> tuple[Tensor, ...]:
    """With n = (x - mean) rate: rate (w dy - mean(w dy) - n mean(w dy n)) at x, sums of dy n and of dy at w, bias."""
    (dy,), (x, weight, kept) = gradients, saved
    normed = _normed(x, kept)
    slope = dy.to(normed.dtype)
    weighted = slope * weight.to(normed.dtype)
    dx = weighted - weighted.mean(-1, keepdim=True) - normed * (weighted * normed).mean(-1, keepdim=True)
    d_weight, d_bias = (part.reshape(-1, *weight.shape).sum(0).to(weight.dtype) for part in (slope * normed, slope))
    return (dx * kept[..., 1:]).to(x.dtype), d_weight, d_bias


def _normed(x: Tensor, kept: Tensor) -> Tensor:
    return (x.to(kept.dtype) - kept[..., :1]) * kept[..., 1:]


_layer_norm = Differentiable(
    "layer_norm", _forward, _gradient, outputs=1, keeps=(0, 1), option="float", native=LAYER_NORM_NATIVE
)
