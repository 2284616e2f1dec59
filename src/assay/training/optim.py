"""AdamW, with weight decay on the parameters whose layers declare it, and the learning rate of each step."""

import math

import torch
from torch import nn

from assay.model.decay_roles import decay_roles
from assay.training.config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused, in two groups of parameters: with and without weight decay."""
    roles = list(decay_roles(model))
    decayed = [p for _, p, role in roles if role or config.decay_all]
    kept = [p for _, p, role in roles if not (role or config.decay_all)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The learning rate of step 0 ... steps - 1.

    Linear warm-up, then constant; a cosine to `final_share` (Loshchilov and Hutter 2017); or `wsd`, constant and a
    linear fall at the end (Hu et al. 2024).
    """
    warmup = round(config.warmup_share * config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    fall = round(config.decay_share * config.steps) if config.schedule == "wsd" else config.steps - warmup
    done = max(0.0, (step - (config.steps - fall) + 1) / max(1, fall))
    share = 1 - done if config.schedule == "wsd" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * (config.final_share + (1 - config.final_share) * share)
