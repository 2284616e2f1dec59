"""The interface of a fusion: a layer that makes one output of the outputs of two mixers.

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
    """The hidden state of a recurrent arbiter, [B, H], in float32 or wider."""

    hidden: Tensor


FusionState = ArbiterState | tuple[()]


class Fusion(Layer):
    """A causal layer of two inputs [B, T, D] and one output; only recurrent arbiters have a state."""

    @abstractmethod
    def forward(
        self,
        rwkv: Float[Tensor, "B T D"],
        mamba: Float[Tensor, "B T D"],
        state: FusionState | None,
        execution: Execution,
        shared: Shared | None = None,
    ) -> tuple[Float[Tensor, "B T D"], FusionState]:
        """The fused output, and the state after the last token. `rwkv` and `mamba` are the outputs of both mixers."""

    def initial_state(self, batch: int) -> FusionState:
        return ()

    def flops_per_token(self) -> int:
        """Two per multiply-add of every matrix; arbiters add three per state element. Sums of paths are not counted."""
        return 2 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim >= 2)

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        """As in SequenceLayer: products of matrices are counted, elementwise operations are not."""
        return ExecutedFlops(Fusion.flops_per_token(self) * tokens, {})


def mixed(
    share: Float[Tensor, "B T S"], rwkv: Float[Tensor, "B T D"], mamba: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T D"]:
    """share * rwkv + (1 - share) * mamba, in the wider of their types. S is 1 or D."""
    dtype = torch.promote_types(rwkv.dtype, mamba.dtype)
    return torch.lerp(mamba.to(dtype), rwkv.to(dtype), share.to(dtype))
