"""Cross-entropy of a linear head over a vocabulary, in chunks of tokens, without ever keeping all logits.

Shapes: N tokens, D d_model, V vocabulary. Targets of IGNORED count nothing, and no logits are formed for them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.ops.cross_entropy_native import CROSS_ENTROPY_NATIVE
from assay.ops.execution import product_dtype
from assay.ops.opaque import Differentiable, shapes_only
from assay.targets import IGNORED

CHUNK_BYTES = 1 << 23
"""Logits alive at once, in the type that they are multiplied in: 8 MB, few and large matrix products."""
SLICE_LOGITS = 1 << 18
"""Logits whose softmax is taken at once, in float32: 1 MB, what a core's second cache holds from pass to pass."""


def summed_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The sum of -ln softmax(weight hidden)[target] over the targets that are not IGNORED, in float32 or better.

    The gradients are formed chunk by chunk during the forward pass, where the logits are at hand.
    """
    if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return token_nats(hidden, weight, targets).sum()
    (total,) = _summed_nats(hidden, weight, targets, option=(product_dtype(hidden),))
    return total


def token_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """-ln softmax(weight hidden)[target] for each token, zero for IGNORED ones, in float32 or better."""
    dtype = product_dtype(hidden)
    places = _scored(targets)
    if places is not None:
        found = token_nats(hidden[places], weight, targets[places])
        return found.new_zeros(len(targets)).index_put((places,), found)
    wide, operand = torch.promote_types(dtype, torch.float32), weight.to(dtype)
    parts = []
    for h, t in zip(_chunks(hidden, weight, dtype), _chunks(targets, weight, dtype), strict=True):
        logits = (h.to(dtype) @ operand.T).to(wide)
        picked = logits.gather(1, t.clamp_min(0)[:, None])[:, 0]
        parts.append((logits.logsumexp(1) - picked).masked_fill(t == IGNORED, 0.0))
    return torch.cat(parts)


def _forward(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The sum, and its gradients at hidden and weight; products are formed in `dtype`, all else in float32 or wider."""
    places = _scored(targets)
    if places is not None:
        outputs, (some, weight_gradient) = _forward(hidden[places], weight, targets[places], dtype)
        return outputs, (torch.zeros_like(hidden).index_copy_(0, places, some), weight_gradient)
    operand, rows = weight.to(dtype), hidden.to(dtype)
    wide = torch.promote_types(weight.dtype, torch.float32)
    weight_gradient = torch.zeros_like(weight, dtype=wide)
    hidden_gradients, total = [], weight_gradient.new_zeros(())
    for h, t in zip(_chunks(rows, weight, dtype), _chunks(targets, weight, dtype), strict=True):
        logits = h @ operand.T
        total += _to_slopes(logits, t, wide)
        hidden_gradients.append((logits @ operand).to(hidden.dtype))
        weight_gradient += logits.T @ h
    return (total,), (torch.cat(hidden_gradients), weight_gradient.to(weight.dtype))


def _to_slopes(logits: Float[Tensor, "N V"], targets: Int[Tensor, " N"], wide: torch.dtype) -> Float[Tensor, ""]:
    """The summed nats of `logits`, which become their own gradients: in place, in slices that stay in the cache."""
    total = torch.zeros((), dtype=wide, device=logits.device)
    length = max(1, SLICE_LOGITS // logits.shape[1])
    for some, t in zip(logits.split(length), targets.split(length), strict=True):
        picked, scored = t.clamp_min(0)[:, None], t != IGNORED
        slope = some.to(wide)  # the same tensor where the type is
        # Once over: the exponentials serve the loss and, scaled, its gradient.
        slope -= slope.amax(1, keepdim=True)
        at_target = slope.gather(1, picked)[:, 0]
        normaliser = slope.exp_().sum(1)
        total += ((normaliser.log() - at_target) * scored).sum()
        slope *= (scored / normaliser)[:, None]
        slope.scatter_add_(1, picked, -scored.to(wide)[:, None])
        if slope.dtype != some.dtype:
            some.copy_(slope)
    return total


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: torch.dtype) -> tuple[Tensor, ...]:
    (slope,), (hidden_gradient, weight_gradient) = gradients, saved
    return hidden_gradient * slope.to(hidden_gradient.dtype), weight_gradient * slope


_summed_nats = Differentiable(
    "summed_nats", _forward, _gradient, outputs=1, option="ScalarType", native=CROSS_ENTROPY_NATIVE
)


def _scored(targets: Tensor) -> Tensor | None:
    """Where the targets stand that are not IGNORED; None where all are, and while compiling, where shapes are fixed."""
    if shapes_only(targets) or torch.compiler.is_compiling():
        return None
    places = (targets != IGNORED).nonzero().squeeze(1)
    return None if len(places) == len(targets) else places


def _chunks(rows: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = rows.split(max(16, CHUNK_BYTES // (weight.shape[0] * dtype.itemsize)))
    return parts
