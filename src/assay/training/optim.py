"""The optimizer, its groups by what layers declare of their parameters, and the learning rate of each step."""

import math

import torch
from torch import nn

from assay.model.optimizer_roles import Role, optimizer_roles
from assay.records import OptimizerGroup
from assay.training.config import TrainingConfig
from assay.training.muon import Group, MuonWithAdamW, adamw


def build_optimizer(model: nn.Module, config: TrainingConfig, native: bool = False) -> torch.optim.Optimizer:
    """The optimizer of `training.optimizer`; a group of parameters for each weight decay and learning-rate factor.

    The factor stands beside a group's `lr`, which `set_rate` sets anew at each step. With `muon` the parameters that
    are matrices have groups of their own; a model without any is left to AdamW whole. `native` lets Muon's products
    run in C++ where `prepare_ops` has made that ready.
    """
    matrices, others = list[Group](), list[Group]()
    for role, parameters in _by_role(model, config).items():
        group = {
            "params": parameters,
            "weight_decay": config.weight_decay if role.decay else 0.0,
            "lr": config.learning_rate * role.rate_factor,
            "rate_factor": role.rate_factor,
        }
        (matrices if role.matrix else others).append(group)
    return MuonWithAdamW(matrices, others, config, native) if matrices else adamw(others, config)


def optimizer_groups(model: nn.Module, config: TrainingConfig) -> list[OptimizerGroup]:
    """The groups of `build_optimizer`, as a record has them."""
    return [
        OptimizerGroup(
            weight_decay=config.weight_decay if role.decay else 0.0,
            rate_factor=role.rate_factor,
            optimizer="muon" if role.matrix else "adamw",
            parameters=sum(parameter.numel() for parameter in parameters),
        )
        for role, parameters in _by_role(model, config).items()
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step: in each group `rate` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


def _by_role(model: nn.Module, config: TrainingConfig) -> dict[Role, list[nn.Parameter]]:
    """The parameters of each role: those of Muon first, then those with weight decay. `matrix` says whether Muon's."""
    found: dict[Role, list[nn.Parameter]] = {}
    for _, parameter, declared in optimizer_roles(model):
        role = Role(
            declared.decay or config.decay_all,
            declared.rate_factor if config.layer_rates else 1.0,
            declared.matrix and config.optimizer == "muon",
        )
        found.setdefault(role, []).append(parameter)
    return dict(sorted(found.items(), key=lambda item: (not item[0].matrix, not item[0].decay, item[0].rate_factor)))


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The learning rate of step 0 ... steps - 1.

    Linear warm-up, then constant; a cosine to `final_share` (Loshchilov and Hutter 2017); or `wsd`, constant and a
    linear fall at the end (Hu et al. 2024).
    """
    warmup = config.warmup_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    fall = round(config.decay_share * config.steps) if config.schedule == "wsd" else config.steps - warmup
    done = max(0.0, (step - (config.steps - fall) + 1) / max(1, fall))
    share = 1 - done if config.schedule == "wsd" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * (config.final_share + (1 - config.final_share) * share)
