"""One step of a model as one compiled graph, over a state of tensors that keep their places and shapes.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from assay.layers.mixer import state_tensors
from assay.model.lm import LanguageModel, ModelState

Part = TypeVar("Part")


class StepGraph:
    """A step of the model as one compiled graph, ids [B] -> logits [B, V], over a state that it owns and writes.

    The graph checks nothing when it is called: its inputs are always the same tensors.
    """

    def __init__(self, model: LanguageModel, state: ModelState, capacity: int) -> None:
        self.model = model
        self.capacity = capacity
        self.state = own(model.fixed_state(state, capacity), {})

        def advance(ids: Tensor) -> Tensor:
            logits, after = model.step(ids, self.state)
            write(self.state, after)
            return logits

        self.advance = torch.compile(  # type: ignore[call-overload]  # torch's overloads know no isolate_recompiles
            advance,
            fullgraph=True,
            dynamic=False,
            backend=_inductor,
            isolate_recompiles=True,  # without guards, another decoder would else take this one's graph
            options={"guard_filter_fn": lambda guards: [False] * len(guards)},
        )

    def fill(self, state: ModelState) -> None:
        """Continue from `state`."""
        write(self.state, self.model.fixed_state(state, self.capacity))

    def __call__(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.advance(ids)
        return logits


def _inductor(graph: torch.fx.GraphModule, inputs: Sequence[Any], **_: Any) -> Callable[..., Any]:
    """Torch's compiler, with a wrapper in C++ around the kernels, and products with vectors as sums.

    A step is some hundred small kernels: a wrapper in Python takes longer than they do. So does a call of a library for
    each product of a matrix and a vector, which as a sum the compiler fuses with what stands around it.
    """
    from torch._inductor.compile_fx import compile_fx  # takes a second to import
    from torch._inductor.decomposition import select_decomp_table

    compiled: Any = compile_fx(
        graph, inputs, config_patches={"cpp_wrapper": True}, decompositions={**select_decomp_table(), **_VECTORS}
    )
    return cast(Callable[..., Any], compiled)


def _mm(x: Tensor, matrix: Tensor) -> Any:
    """[1, K] times [K, N]; of more rows the product stays one."""
    if len(x) != 1:
        return NotImplemented
    return (matrix.t() * x).sum(-1)[None]


def _addmm(bias: Tensor, x: Tensor, matrix: Tensor, beta: float = 1, alpha: float = 1) -> Any:
    if len(x) != 1 or beta != 1 or alpha != 1:
        return NotImplemented
    return _mm(x, matrix) + bias


def _bmm(x: Tensor, y: Tensor) -> Any:
    """[B, M, K] times [B, K, N], where M or N is 1."""
    if x.shape[1] != 1 and y.shape[2] != 1:
        return NotImplemented
    return (x[:, :, None] * y.mT[:, None]).sum(-1)


_VECTORS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.mm.default: _mm,
    torch.ops.aten.addmm.default: _addmm,
    torch.ops.aten.bmm.default: _bmm,
}


def own(part: Part, copies: dict[int, Tensor]) -> Part:
    """A copy of a state, in which what was one tensor still is; a TypeError where it holds anything else."""
    if isinstance(part, Tensor):
        return copies.setdefault(id(part), part.clone())  # type: ignore[return-value]
    if not isinstance(part, tuple):
        raise TypeError(f"a state holds {part!r}, which is no tensor: its layer has no `fixed_state` that says how")
    inside = [own(of, copies) for of in part]
    return type(part)(*inside) if hasattr(part, "_fields") else type(part)(inside)


def write(state: ModelState, after: ModelState) -> None:
    """Copy the tensors of `after` into those of `state`; a ValueError where their shapes or types differ."""
    written: list[Tensor] = []
    for old, new in zip(state_tensors(state), state_tensors(after), strict=True):
        if old is new or any(old is one for one in written):
            continue
        if old.shape != new.shape or old.dtype != new.dtype:
            raise ValueError(f"a state of {list(old.shape)} became {list(new.shape)}: it has no fixed shape")
        old.copy_(new)
        written.append(old)
