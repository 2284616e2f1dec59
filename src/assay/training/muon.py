"""Muon for matrices and AdamW for everything else, as one optimizer.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale of its updates from Liu et al.
2025 (arXiv:2502.16982): 0.2 sqrt(max(rows, columns)) times an orthogonal matrix has about the root mean square of
AdamW's, so that one learning rate and one weight decay serve both.
"""

from collections.abc import Callable
from typing import Any

import torch

from assay.training.config import TrainingConfig

MOMENTUM = 0.95
"""With Nesterov's correction, as published."""
ITERATIONS = 5
"""Of Newton and Schulz, in bfloat16, by which a momentum is made orthogonal."""

Group = dict[str, Any]


class MuonWithAdamW(torch.optim.Optimizer):
    """Groups of both kinds in one `param_groups`, those of `matrices` first; one state, one checkpoint."""

    def __init__(self, matrices: list[Group], others: list[Group], config: TrainingConfig) -> None:
        self._muon = torch.optim.Muon(
            matrices,
            lr=config.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            ns_steps=ITERATIONS,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = adamw(others, config)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the two work on the groups and the state of this one."""
        first = len(self._muon.param_groups)
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:first], self.param_groups[first:]
        self._muon.state = self._adamw.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; there is nothing for a `closure` to do."""
        if closure is not None:
            raise ValueError("closure: the loss is not computed again")
        self._muon.step()
        self._adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def adamw(groups: list[Group], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused."""
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )
