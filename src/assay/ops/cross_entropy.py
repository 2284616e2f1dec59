"""Cross-entropy of a linear head over a vocabulary, in chunks of tokens, without ever keeping all logits.

Shapes: N tokens, D d_model, V vocabulary. Targets of IGNORED count nothing, and no logits are formed for them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.ops.opaque import Differentiable, shapes_only
from assay.targets import IGNORED

CHUNK_LOGITS = 1 << 21
"""Logits alive at once: 8 MB in float32, about what a core's caches hold."""


def summed_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The sum of -ln softmax(weight hidden)[target] over the targets that are not IGNORED, in float32 or better.

    The gradients are formed chunk by chunk during the forward pass, where the logits are at hand.
    """
    if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return token_nats(hidden, weight, targets).sum()
    (total,) = _summed_nats(hidden, weight, targets, option=(_matmul_dtype(hidden),))
    return total


def token_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """-ln softmax(weight hidden)[target] for each token, zero for IGNORED ones, in float32 or better."""
    dtype = _matmul_dtype(hidden)
    places = _scored(targets)
    if places is not None:
        found = token_nats(hidden[places], weight, targets[places])
        return found.new_zeros(len(targets)).index_put((places,), found)
    parts = []
    for h, t in zip(_chunks(hidden, weight), _chunks(targets, weight), strict=True):
        logits = _logits(h, weight, dtype)
        picked = logits.gather(1, t.clamp_min(0)[:, None])[:, 0]
        parts.append((logits.logsumexp(1) - picked).masked_fill(t == IGNORED, 0.0))
    return torch.cat(parts)


def _forward(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The sum, and its gradients at hidden and weight; products are formed in `dtype`."""
    places = _scored(targets)
    if places is not None:
        outputs, (some, weight_gradient) = _forward(hidden[places], weight, targets[places], dtype)
        return outputs, (torch.zeros_like(hidden).index_copy_(0, places, some), weight_gradient)
    weight_gradient = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    hidden_gradients, total = [], weight_gradient.new_zeros(())
    for h, t in zip(_chunks(hidden, weight), _chunks(targets, weight), strict=True):
        logits = _logits(h, weight, dtype)
        picked, scored = t.clamp_min(0)[:, None], t != IGNORED
        # In place and once over: the exponentials serve the loss and, scaled, its gradient.
        logits -= logits.amax(1, keepdim=True)
        at_target = logits.gather(1, picked)[:, 0]
        slope = logits.exp_()
        normaliser = slope.sum(1)
        total += ((normaliser.log() - at_target) * scored).sum()
        slope *= (scored / normaliser)[:, None]
        slope.scatter_add_(1, picked, -scored.to(slope.dtype)[:, None])
        operand = slope.to(dtype)
        hidden_gradients.append((operand @ weight.to(dtype)).to(hidden.dtype))
        weight_gradient += operand.T @ h.to(dtype)
    return (total,), (torch.cat(hidden_gradients), weight_gradient.to(weight.dtype))


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], _: torch.dtype) -> tuple[Tensor, ...]:
    (slope,), (hidden_gradient, weight_gradient) = gradients, saved
    return hidden_gradient * slope.to(hidden_gradient.dtype), weight_gradient * slope


_summed_nats = Differentiable("summed_nats", _forward, _gradient, outputs=1, option="ScalarType")


def _scored(targets: Tensor) -> Tensor | None:
    """Where the targets stand that are not IGNORED; None where all are, and while compiling, where shapes are fixed."""
    if shapes_only(targets) or torch.compiler.is_compiling():
        return None
    places = (targets != IGNORED).nonzero().squeeze(1)
    return None if len(places) == len(targets) else places


def _chunks(rows: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = rows.split(max(16, CHUNK_LOGITS // weight.shape[0]))
    return parts


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    """The type a linear layer would multiply in here: autocast's, where it is on."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _logits(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (hidden.to(dtype) @ weight.to(dtype).T).to(torch.promote_types(dtype, torch.float32))
