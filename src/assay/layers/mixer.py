"""The interface of every layer: forward pass, state, weight-decay roles, and the costs it declares.

Shapes: B batch, T tokens of this call, D d_model.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.ops.execution import Execution
from assay.ops.forms import Op

State = Any
"""Each layer's own NamedTuple, whose tensors start with the batch axis; `()` for a layer that remembers nothing."""

Shared = MutableMapping[str, Tensor]
"""Tensors [B, T, ...] that earlier layers of the same call publish; nothing in it may summarise later positions.

`ids` [B, T] is there from the beginning. The names a layer publishes under begin with its family, as in "family.keys".
A name that ends in `_weight` may hold a parameter of the publishing layer, of any shape, so that a later layer can use
the same projection; a parameter does not depend on the tokens, so it cannot leak them.
"""


class ExecutedFlops(NamedTuple):
    """Forward FLOPs of the form that runs: `counted` are those torch's FlopCounterMode sees, `uncounted` the rest.

    They follow from shapes alone: what an op does besides because of values (`assay.ops.execution.extra_work`) is in
    neither.
    """

    counted: int
    uncounted: Mapping[str, int]


def state_tensors(state: State) -> Iterator[Tensor]:
    """Every tensor of a state, depth first."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, tuple | list):
        for part in state:
            yield from state_tensors(part)


class Layer(nn.Module, ABC):
    """A module that draws its own parameters and says what the optimizer does with each.

    `decay_roles` names every parameter that the layer owns directly, not those of submodules, and says whether weight
    decay applies to it; `rate_factors` those whose learning rate is another multiple of the step's than 1; `matrices`
    those that, like the weight of a torch.nn.Linear, multiply features as whole matrices, which Muon makes orthogonal
    updates for. Tables, heads, filters of convolutions and the factors of low-rank maps are none. `ops` are
    those of assay.ops that it calls itself, not through submodules: a run's record says in which form they ran.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {}
    rate_factors: ClassVar[Mapping[str, float]] = {}
    matrices: ClassVar[frozenset[str]] = frozenset()
    ops: tuple[Op, ...] = ()

    @abstractmethod
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw every parameter, of submodules too, from the architecture's own initialisation."""


class SequenceLayer(Layer):
    """A layer [B, T, D] -> [B, T, D] that is causal and may carry state: mixers and channel mixers alike.

    `execution` is the form of its ops, set for a whole model at once.
    """

    execution: Execution = Execution()

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "B T D"], state: State | None = None, shared: Shared | None = None
    ) -> tuple[Float[Tensor, "B T D"], State]:
        """The parallel form over T >= 1 tokens, continuing from `state`; T = 1 is decoding."""

    @abstractmethod
    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        """The state before the first token, in the type and on the device of the parameters.

        `capacity` is the number of tokens to hold, for states that grow with the sequence.
        """

    def fixed_state(self, state: State, capacity: int, position: Int[Tensor, ""]) -> State:
        """`state` after `position` tokens as tensors alone, whose shapes no call of one token changes up to `capacity`.

        A compiled decoder needs it. The default is the state as it is, for one that holds no numbers and does not grow;
        where it does, numbers of tokens become `position` and buffers get their room here.
        """
        return state

    def residual_outputs(self) -> tuple[Tensor, ...]:
        """The weights whose products are added to the residual stream; the initialisation `blinkdl` zeroes them."""
        return ()

    def flops_per_token(self, context: int) -> int:
        """Forward FLOPs per token of the documented algorithm, a mean over positions 1..context.

        Two per multiply-add, one per further multiplication of a state element; attention counts the keys that a query
        may see, so half of all pairs; norms, activations and exponentials are not counted. Independent of chunk
        length. The default counts each matrix as multiplied once per token.
        """
        return 2 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim >= 2)

    def executed_flops(self, tokens: int) -> ExecutedFlops | None:
        """Forward FLOPs of the form that `execution` selects, on one sequence of `tokens` tokens without a state.

        None where a layer does not declare them.
        """
        return None

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """Bytes of the state of one sequence after `context` tokens, buffers included.

        `bytes_per_element` is that of the activations; parts that stay in float32 count 4 whatever it is. The default
        measures the initial state, which is right for a state that does not grow; integers count their own width.
        """
        total = 0
        for part in state_tensors(self.initial_state(1)):
            narrowest = bytes_per_element if part.is_floating_point() else 0
            total += part.numel() * max(part.element_size(), narrowest)
        return total
