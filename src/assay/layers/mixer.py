"""The contract of a layer that moves information along the sequence, and of what it declares about itself.

Shapes: B batch, T tokens of this call, D d_model.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.ops.execution import Execution
from assay.ops.forms import Op

State = Any
"""Each layer's own NamedTuple, whose tensors start with the batch axis; `()` for a layer that remembers nothing."""

Shared = MutableMapping[str, Tensor]
"""Tensors [B, T, ...] that earlier layers of the same call publish; nothing in it may summarise later positions.

`ids` [B, T] is there from the beginning. A layer's keys begin with its family's name, "family.keys". One that ends in
`_weight` may hold a parameter of the layer that publishes it, of whatever shape, as a parameter knows no token: a later
layer can compute with another's projection.
"""


class ExecutedFlops(NamedTuple):
    """Forward FLOPs of the form that runs: `counted` by torch's counter, and by name what it does not count."""

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
    """A module that draws its own parameters and says which of them weight decay applies to.

    `decay_roles` names every parameter that the layer owns directly, not those of submodules. `ops` are those of
    assay.ops that it calls itself, not through submodules: a run's record says in which form they ran.
    """

    decay_roles: ClassVar[Mapping[str, bool]] = {}
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

    def residual_outputs(self) -> tuple[Tensor, ...]:
        """The weights whose products are added to the residual stream: what `blinkdl` sets to zero."""
        return ()

    def flops_per_token(self, context: int) -> int:
        """Forward FLOPs of the documented algorithm, the mean over positions 1..context.

        Two per multiply-add, one per further multiplication of a state element, causal attention at half;
        norms, activations and exponentials are not counted. Independent of chunk length. Unless a layer says
        otherwise: every matrix is multiplied once by each token.
        """
        return 2 * sum(parameter.numel() for parameter in self.parameters() if parameter.ndim >= 2)

    def executed_flops(self, tokens: int) -> ExecutedFlops | None:
        """Forward FLOPs of the form that `execution` selects, on one sequence of `tokens` tokens without a state.

        None where a layer does not declare them.
        """
        return None

    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        """Bytes of the state of one sequence after `context` tokens, buffers included.

        `bytes_per_element` is that of the activations; parts that stay in float32 count 4 whatever it is.
        Unless a layer says otherwise: its initial state, whose size does not change; counters are as wide as they are.
        """
        total = 0
        for part in state_tensors(self.initial_state(1)):
            narrowest = bytes_per_element if part.is_floating_point() else 0
            total += part.numel() * max(part.element_size(), narrowest)
        return total
