"""Twin: RWKV-6 and Mamba-2 read the same input in every block, and a fusion makes one output of both.

    r = RWKV6(x),  m = Mamba2(x) or, with mamba_residual, x + Mamba2(x),  y = fusion(r, m)

x is the block's normalised input. The design is that of two research notes: document 000, on GPT-1, RWKV-6 and Mamba-2,
plans it as its next step, and document 004 specifies how it is to be evaluated. In training r may be dropped for whole
sequences, and the loss "diversity" penalises outputs of the same direction:

    diversity_weight (1 + cosine(r, m)) / 2, a mean over positions        (before r is dropped)

Shapes: B batch, T tokens of this call, D d_model.
"""

from collections import Counter
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assay.layers.auxiliary import add_loss
from assay.layers.basic import PathTap
from assay.layers.mamba2 import Mamba2, Mamba2State
from assay.layers.mixer import ExecutedFlops, SequenceLayer, Shared, state_tensors
from assay.layers.randomness import Masking
from assay.layers.rwkv6 import RWKV6State, RWKV6TimeMix
from assay.layers.twin.contract import Fusion, FusionState

SMALLEST_RMS = 1e-3
"""Keeps the cosine differentiable: RWKV-6's outputs start as zeros, which have no direction."""


class TwinState(NamedTuple):
    """The states of RWKV-6, of Mamba-2 and of the fusion (`()` where it has none)."""

    rwkv: RWKV6State
    mamba: Mamba2State
    fusion: FusionState


class Twin(SequenceLayer):
    """Both mixers and their fusion. The taps `rwkv_path` and `mamba_path` see r and m [B, T, D] as the fusion does.

    `path_drop` is the probability that r is zero for a whole sequence in training; otherwise r is divided by
    1 - path_drop, as in dropout.
    """

    def __init__(
        self,
        rwkv: RWKV6TimeMix,
        mamba: Mamba2,
        fusion: Fusion,
        mamba_residual: bool = False,
        path_drop: float = 0.0,
        diversity_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.rwkv, self.mamba, self.fusion = rwkv, mamba, fusion
        self.mamba_residual, self.path_drop, self.diversity_weight = mamba_residual, path_drop, diversity_weight
        self.masking = Masking()
        self.rwkv_path, self.mamba_path = PathTap(), PathTap()

    def forward(
        self, x: Float[Tensor, "B T D"], state: TwinState | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], TwinState]:
        rwkv, rwkv_state = self.rwkv(x, state and state.rwkv, shared)
        mamba, mamba_state = self.mamba(x, state and state.mamba, shared)
        if self.mamba_residual:
            mamba = x + mamba
        if self.training and self.diversity_weight:
            add_loss(shared, "diversity", self.diversity_weight * diversity_loss(rwkv, mamba))
        if self.training and self.path_drop:
            rwkv = rwkv * self.masking.keep((len(rwkv), 1, 1), self.path_drop, rwkv)
        rwkv, mamba = self.rwkv_path(rwkv), self.mamba_path(mamba)
        y, fusion_state = self.fusion(rwkv, mamba, state and state.fusion, self.execution, shared)
        return y, TwinState(rwkv_state, mamba_state, fusion_state)

    def initial_state(self, batch: int, capacity: int | None = None) -> TwinState:
        return TwinState(
            self.rwkv.initial_state(batch), self.mamba.initial_state(batch), self.fusion.initial_state(batch)
        )

    def reset_parameters(self, generator: torch.Generator) -> None:
        for part in (self.rwkv, self.mamba, self.fusion):
            part.reset_parameters(generator)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        """Those of both mixers and none of the fusion's.

        When these are zero the output is zero; were a fusion's projection zero too, no gradient would reach them.
        """
        return (*self.rwkv.residual_outputs(), *self.mamba.residual_outputs())

    def flops_per_token(self, context: int) -> int:
        """Those of both mixers and the fusion."""
        mixers = self.rwkv.flops_per_token(context) + self.mamba.flops_per_token(context)
        return mixers + self.fusion.flops_per_token()

    def executed_flops(self, tokens: int) -> ExecutedFlops | None:
        parts = (*(m.executed_flops(tokens) for m in (self.rwkv, self.mamba)), self.fusion.executed_flops(tokens))
        uncounted: Counter[str] = Counter()
        counted = 0
        for part in parts:
            if part is None:
                return None
            counted += part.counted
            uncounted.update(part.uncounted)
        return ExecutedFlops(counted, dict(uncounted))

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """The states of both mixers, and the arbiter's hidden state at 4 bytes per element or more."""
        mixers = sum(mixer.state_bytes(context, bytes_per_element) for mixer in (self.rwkv, self.mamba))
        fusion = sum(part.numel() for part in state_tensors(self.fusion.initial_state(1)))
        return mixers + fusion * max(4, bytes_per_element)


def diversity_loss(rwkv: Float[Tensor, "B T D"], mamba: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """(1 + cosine) / 2 of both outputs, a mean over positions: 0 opposite, 1/2 unrelated, 1 the same direction.

    Both are divided by sqrt(mean square + SMALLEST_RMS^2) instead of their norm; for outputs of RMS 1 that changes the
    cosine by one millionth.
    """
    dtype = torch.promote_types(torch.promote_types(rwkv.dtype, mamba.dtype), torch.float32)
    r, m = (F.rms_norm(path.to(dtype), path.shape[-1:], eps=SMALLEST_RMS**2) for path in (rwkv, mamba))
    return ((1 + (r * m).mean(-1)) / 2).mean()
