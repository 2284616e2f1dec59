"""The arbiters of `twin`: fusions whose GRU, minGRU or GLU reads both mixers' outputs and gives each a weight.

Shapes: B batch, T tokens of this call, D d_model, H = 3 D / 2 the arbiter's width, E = 2 D the width of its input.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assay.layers.auxiliary import add_loss
from assay.layers.basic import RMSNorm, Tap, uniform_fan_in_
from assay.layers.mixer import ExecutedFlops, Layer, Shared
from assay.layers.twin.contract import ArbiterState, Fusion, FusionState, mixed
from assay.ops.execution import Execution
from assay.ops.min_gru import GRU, MIN_GRU, gru, min_gru


class Core(Layer):
    """The sequence model inside an arbiter, from both mixers' normalised outputs to hidden features.

    `remembers` says whether it is recurrent, that is, has a hidden state.
    """

    remembers: ClassVar[bool]

    @abstractmethod
    def forward(
        self, paths: Float[Tensor, "B T E"], hidden: Float[Tensor, "B H"] | None, execution: Execution
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"] | None]:
        """Hidden features at every position, and the hidden state after the last (None where the core has none)."""


class GRUCore(Core):
    """A GRU, which must run token after token (Cho et al. 2014)."""

    remembers = True
    decay_roles: ClassVar[Mapping[str, bool]] = {
        "weight_in": True,
        "weight_state": True,
        "bias_in": False,
        "bias_state": False,
    }
    matrices: ClassVar[frozenset[str]] = frozenset({"weight_in", "weight_state"})
    ops = (GRU,)

    def __init__(self, d_input: int, width: int) -> None:
        super().__init__()
        self.weight_in = nn.Parameter(torch.empty(3 * width, d_input))
        self.weight_state = nn.Parameter(torch.empty(3 * width, width))
        self.bias_in = nn.Parameter(torch.empty(3 * width))
        self.bias_state = nn.Parameter(torch.empty(3 * width))

    def forward(
        self, paths: Float[Tensor, "B T E"], hidden: Float[Tensor, "B H"] | None, execution: Execution
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"] | None]:
        return gru(paths, self.weight_in, self.weight_state, self.bias_in, self.bias_state, hidden, execution)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform in +-1/sqrt(H), torch's default for a GRU."""
        bound = 1 / math.sqrt(self.weight_state.shape[1])
        for parameter in (self.weight_in, self.weight_state, self.bias_in, self.bias_state):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)


class MinGRUCore(Core):
    """A minGRU: its gate and candidate depend on the input alone, so it runs as a parallel scan (Feng et al. 2024)."""

    remembers = True
    ops = (MIN_GRU,)

    def __init__(self, d_input: int, width: int) -> None:
        super().__init__()
        self.gate_and_candidate = nn.Linear(d_input, 2 * width)

    def forward(
        self, paths: Float[Tensor, "B T E"], hidden: Float[Tensor, "B H"] | None, execution: Execution
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"] | None]:
        gate, candidate = self.gate_and_candidate(paths).chunk(2, -1)
        return min_gru(gate, candidate, hidden, execution)

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.gate_and_candidate.weight, generator)
        nn.init.zeros_(self.gate_and_candidate.bias)


class GLUCore(Core):
    """(W x + b) sigmoid(V x + c), a gated linear unit (Dauphin et al. 2017).

    It has no memory: the control that shows what recurrence in an arbiter is worth.
    """

    remembers = False

    def __init__(self, d_input: int, width: int) -> None:
        super().__init__()
        self.value_and_gate = nn.Linear(d_input, 2 * width)

    def forward(
        self, paths: Float[Tensor, "B T E"], hidden: Float[Tensor, "B H"] | None, execution: Execution
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"] | None]:
        return F.glu(self.value_and_gate(paths), -1), None

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.value_and_gate.weight, generator)
        nn.init.zeros_(self.value_and_gate.bias)


class Arbiter(Fusion):
    """Weights both outputs by a softmax, per position, of what a core makes of them; `share` sees RWKV's, [B, T, 1].

    In training it adds the loss "arbiter", `loss_weight` times `arbiter_loss`.
    """

    def __init__(self, core: Callable[[int, int], Core], d_model: int, initial_gate: float, loss_weight: float) -> None:
        super().__init__()
        self.initial_gate = initial_gate
        self.loss_weight = loss_weight
        self.width = 3 * d_model // 2
        self.rwkv_norm, self.mamba_norm = RMSNorm(d_model), RMSNorm(d_model)
        self.core = core(2 * d_model, self.width)
        self.decide = nn.Linear(self.width, 2)
        self.share = Tap()

    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        before = state.hidden if isinstance(state, ArbiterState) else None
        paths = torch.cat((self.rwkv_norm(rwkv), self.mamba_norm(mamba)), -1)
        features, hidden = self.core(paths, before, execution)
        decision = self.decide(features)
        log_weights = F.log_softmax(decision.to(torch.promote_types(decision.dtype, torch.float32)), -1)
        if self.training and self.loss_weight:
            add_loss(shared, "arbiter", self.loss_weight * arbiter_loss(log_weights))
        share = self.share(log_weights[..., :1].exp())
        return mixed(share, rwkv, mamba), () if hidden is None else ArbiterState(hidden)

    def initial_state(self, batch: int) -> FusionState:
        if not self.core.remembers:
            return ()
        dtype = torch.promote_types(self.decide.weight.dtype, torch.float32)
        return ArbiterState(self.decide.weight.new_zeros(batch, self.width, dtype=dtype))

    def reset_parameters(self, generator: torch.Generator) -> None:
        for part in (self.rwkv_norm, self.mamba_norm, self.core):
            part.reset_parameters(generator)
        nn.init.zeros_(self.decide.weight)
        with torch.no_grad():
            self.decide.bias.copy_(torch.tensor([math.log(self.initial_gate), math.log(1 - self.initial_gate)]))

    def flops_per_token(self) -> int:
        return super().flops_per_token() + 3 * self.width * self.core.remembers

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        counted = super().executed_flops(tokens).counted
        return ExecutedFlops(counted, {"arbiter_state": 3 * self.width * tokens} if self.core.remembers else {})


def arbiter_loss(log_weights: Float[Tensor, "B T 2"]) -> Float[Tensor, ""]:
    """Cross-entropy of the weights against the path nearer to the fused output, a mean over positions, in nats.

    With r and m the outputs of RWKV-6 and Mamba-2, the fused output w_1 r + w_2 m is w_2 |r - m| away from r and
    w_1 |r - m| from m. The nearer path is therefore the one with the larger weight, and no distance has to be
    computed. Where both weights are equal, the target is one half for each.
    """
    held = log_weights.detach()
    largest = (held == held.amax(-1, keepdim=True)).to(held)
    return -(largest / largest.sum(-1, keepdim=True) * log_weights).sum(-1).mean()
