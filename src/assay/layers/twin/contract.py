"""The contract of a fusion: a layer that makes one output of two mixers'.

Shapes: B batch, T tokens of this call, D d_model, H an arbiter's width.
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.layers.mixer import ExecutedFlops, Layer, Shared
from assay.ops.execution import Execution


class ArbiterState(NamedTuple):
    """What the arbiter has made of both paths so far, [B, H], in float32 or wider."""

    hidden: Tensor


FusionState = ArbiterState | tuple[()]


class Fusion(Layer):
    """A layer of two inputs [B, T, D] and one output, causal, with a state where it is an arbiter that remembers."""

    @abstractmethod
    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        """Both paths as one, and the state after the last token."""

    def initial_state(self, batch: int) -> FusionState:
        return ()

    def flops_per_token(self) -> int:
        """Two per multiply-add of every matrix and three a state element; sums of two paths are not counted."""
        return 2 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim >= 2)

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """As SequenceLayer's: products of matrices are counted, what is done element by element is not."""
        return ExecutedFlops(Fusion.flops_per_token(self) * tokens, {})


def mixed(
    share: Float[Tensor, "B T S"], rwkv: Float[Tensor, "B T D"], mamba: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T D"]:
    """Share r + (1 - share) m, in the wider type of both paths."""
    dtype = torch.promote_types(rwkv.dtype, mamba.dtype)
    return torch.lerp(mamba.to(dtype), rwkv.to(dtype), share.to(dtype))
