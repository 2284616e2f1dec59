"""Cross-entropy of a linear head over a vocabulary, in chunks of tokens, without ever keeping all logits.

Shapes: N tokens, D d_model, V vocabulary. Targets of IGNORED count nothing.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100
CHUNK_LOGITS = 1 << 21
"""Logits alive at once: 8 MB in float32, about what a core's caches hold."""


def summed_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """The sum of -ln softmax(weight hidden)[target] over the targets that are not IGNORED, in float32 or better.

    The gradients are formed chunk by chunk during the forward pass, where the logits are at hand.
    """
    if not torch.is_grad_enabled():
        return token_nats(hidden, weight, targets).sum()
    total: Tensor = _SummedNats.apply(hidden, weight, targets)
    return total


def token_nats(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """-ln softmax(weight hidden)[target] for each token, zero for IGNORED ones, in float32 or better."""
    parts = []
    for h, t in zip(_chunks(hidden, weight), _chunks(targets, weight), strict=True):
        logits = _logits(h, weight)
        picked = logits.gather(1, t.clamp_min(0)[:, None])[:, 0]
        parts.append((logits.logsumexp(1) - picked).masked_fill(t == IGNORED, 0.0))
    return torch.cat(parts)


class _SummedNats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        weight_gradient = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        hidden_gradients, total = [], weight_gradient.new_zeros(())
        for h, t in zip(_chunks(hidden, weight), _chunks(targets, weight), strict=True):
            logits = _logits(h, weight)
            picked, scored = t.clamp_min(0)[:, None], t != IGNORED
            # In place and once over: the exponentials serve the loss and, scaled, its gradient.
            logits -= logits.amax(1, keepdim=True)
            at_target = logits.gather(1, picked)[:, 0]
            slope = logits.exp_()
            normaliser = slope.sum(1)
            total += ((normaliser.log() - at_target) * scored).sum()
            slope *= (scored / normaliser)[:, None]
            slope.scatter_add_(1, picked, -scored.to(slope.dtype)[:, None])
            operand = slope.to(_matmul_dtype(h))
            hidden_gradients.append((operand @ weight.to(operand.dtype)).to(hidden.dtype))
            weight_gradient += operand.T @ h.to(operand.dtype)
        ctx.save_for_backward(torch.cat(hidden_gradients), weight_gradient.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * outputs[0].to(hidden_gradient.dtype), weight_gradient * outputs[0], None


def _chunks(rows: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = rows.split(max(16, CHUNK_LOGITS // weight.shape[0]))
    return parts


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    """The type a linear layer would multiply in here: autocast's, where it is on."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    dtype = _matmul_dtype(hidden)
    return (hidden.to(dtype) @ weight.to(dtype).T).to(torch.promote_types(dtype, torch.float32))
