"""How two mixers' outputs become one: the fusions of `twin`, by name in FUSIONS.

With r the output of RWKV-6 and m that of Mamba-2, each at the same position; W, a and b are learned:

    weighted-sum         sigmoid(a) r + (1 - sigmoid(a)) m
    gated                the same with sigmoid(a . [r; m] + b), one number per position
    gated-per-channel    the same with one number per position and channel
    arbiter-*            w_1 r + w_2 m with w = softmax(W h + b), where h is what a GRU, a minGRU or a GLU makes of
                         [rms(r); rms(m)], 1.5 D wide
    concat-project       W [r; m]
    residual             r + W m

`initial_gate` is the share of r at the start: gates and arbiters begin with zero matrices and a bias that gives that
share at every position.

The arbiters are in arbiter.py.

Shapes: B batch, T tokens of this call, D d_model.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.layers.basic import Tap, uniform_fan_in_
from assay.layers.mixer import Shared
from assay.layers.twin.arbiter import Arbiter, GLUCore, GRUCore, MinGRUCore
from assay.layers.twin.contract import Fusion, FusionState, mixed
from assay.ops.execution import Execution

FusionName = Literal[
    "weighted-sum",
    "concat-project",
    "residual",
    "gated",
    "gated-per-channel",
    "arbiter-gru",
    "arbiter-mingru",
    "arbiter-glu",
]


class WeightedSum(Fusion):
    """RWKV's share is one learned number for all positions; the tap `share` sees it as [B, T, 1]."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"logit": False}

    def __init__(self, initial_gate: float) -> None:
        super().__init__()
        self.initial_gate = initial_gate
        self.logit = nn.Parameter(torch.empty(1))
        self.share = Tap()

    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        share = torch.sigmoid(self.logit).expand(*rwkv.shape[:2], 1)
        return mixed(self.share(share), rwkv, mamba), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.constant_(self.logit, _logit(self.initial_gate))


class ConcatProject(Fusion):
    """W [r; m], without bias."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * d_model, d_model, bias=False)

    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        return self.project(torch.cat((rwkv, mamba), -1)), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.project.weight, generator)


class ResidualFusion(Fusion):
    """r + W m, without bias."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        return rwkv + self.project(mamba), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.project.weight, generator)


class Gated(Fusion):
    """RWKV's share is a sigmoid of both outputs, `width` (1 or D) numbers per position; the tap `share` sees it."""

    def __init__(self, d_model: int, width: int, initial_gate: float) -> None:
        super().__init__()
        self.initial_gate = initial_gate
        self.gate = nn.Linear(2 * d_model, width)
        self.share = Tap()

    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        share = self.share(torch.sigmoid(self.gate(torch.cat((rwkv, mamba), -1))))
        return mixed(share, rwkv, mamba), ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, _logit(self.initial_gate))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


FUSIONS: Mapping[FusionName, Callable[[int, float, float], Fusion]] = {
    "weighted-sum": lambda _, initial_gate, __: WeightedSum(initial_gate),
    "concat-project": lambda d_model, _, __: ConcatProject(d_model),
    "residual": lambda d_model, _, __: ResidualFusion(d_model),
    "gated": lambda d_model, initial_gate, _: Gated(d_model, 1, initial_gate),
    "gated-per-channel": lambda d_model, initial_gate, _: Gated(d_model, d_model, initial_gate),
    "arbiter-gru": lambda *given: Arbiter(GRUCore, *given),
    "arbiter-mingru": lambda *given: Arbiter(MinGRUCore, *given),
    "arbiter-glu": lambda *given: Arbiter(GLUCore, *given),
}
"""Makes each fusion, given d_model, the initial gate and the weight of the arbiter's loss."""

WITHOUT_GATE: frozenset[FusionName] = frozenset(("concat-project", "residual"))
ARBITERS: frozenset[FusionName] = frozenset(("arbiter-gru", "arbiter-mingru", "arbiter-glu"))
