"""Muon for matrices and AdamW for everything else, as one optimizer.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale of its updates from Liu et al.
2025 (arXiv:2502.16982): 0.2 sqrt(max(rows, columns)) times an orthogonal matrix has about the root mean square of
AdamW's, so that one learning rate and one weight decay serve both.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from assay.ops.orthogonal import NewtonSchulz, orthogonal
from assay.training.config import TrainingConfig

MOMENTUM = 0.95
"""With Nesterov's correction, as published."""
ITERATIONS = 5
"""Of Newton and Schulz, in bfloat16, by which a momentum is made orthogonal."""

Group = dict[str, Any]


class ByShape(torch.optim.Muon):
    """torch's Muon with one batch of products for all matrices of a shape, or one call of C++, where torch's makes
    fifteen products for each matrix: in small models that was a fifth of a step. Groups, state and options are torch's.
    """

    native = False
    """Whether matrices are made orthogonal in C++ where that is ready."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Momentum M = m M + (1 - m) G, then W = (1 - lr decay) W - lr 0.2 sqrt(max(rows, columns)) O for O the
        orthogonal matrix nearest to G + m (M - G).
        """
        if closure is not None:
            raise ValueError("closure: the loss is not computed again")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            if not weights:
                continue
            moments = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, moments, group["momentum"])
            a, b, c = group["ns_coefficients"]
            iteration = NewtonSchulz(a, b, c, group["eps"], group["ns_steps"])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for shape in dict.fromkeys(weight.shape for weight in weights):
                places = [place for place, weight in enumerate(weights) if weight.shape == shape]
                found = orthogonal(torch.stack([updates[place] for place in places]), iteration, self.native)
                by = -group["lr"] * 0.2 * math.sqrt(max(shape))
                torch._foreach_add_([weights[place] for place in places], list(found.unbind()), alpha=by)


class MuonWithAdamW(torch.optim.Optimizer):
    """Groups of both kinds in one `param_groups`, those of `matrices` first; one state, one checkpoint."""

    def __init__(
        self, matrices: list[Group], others: list[Group], config: TrainingConfig, native: bool = False
    ) -> None:
        self._muon = ByShape(
            matrices,
            lr=config.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            ns_steps=ITERATIONS,
            adjust_lr_fn="match_rms_adamw",
        )
        self._muon.native = native
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
