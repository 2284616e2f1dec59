"""A forward function and its gradient by hand, as one differentiable function that a compiled graph holds as one node.

In eager it is a torch.autograd.Function. While a graph is compiled it is an op of torch's library, `assay::NAME`, whose
gradient is another, `assay::NAME_gradient`: the compiler asks both for shapes alone and never looks inside, so they may
branch on what their tensors hold. The same two functions run in either way, without autocast: whoever calls them gives
the operands in the types that they are to compute in.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from assay.ops.native.build import NotBuiltError
from assay.ops.native.kernels import KERNELS, Native, agrees, load, shapes_only
from assay.ops.native.processor import types_here

__all__ = ["Differentiable", "native_sources", "prepare_native", "shapes_only"]

Forward = Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
"""(*operands, *option) -> (outputs, what else the gradient needs)."""

Gradient = Callable[..., tuple[Tensor, ...]]
"""(gradients of the outputs, saved tensors, *option) -> gradients of the first operands; those after them have none."""


class Differentiable:
    """`forward` with the gradient `gradient`; calling it with operands and option gives the outputs.

    It has first derivatives only. Gradients should be in the layout of their operands: other layouts could differ from
    those that a compiler assumes.

    What `gradient` gets as saved are the tensors at the places `keeps`, counted through the operands and then the
    `outputs`, followed by what else `forward` returned. `option` is the type of an argument that is no tensor, where
    there is one. Shapes and types of all results follow from those of the operands.

    Inside `native_ops` a `native` form in C++ takes over, in eager and in compiled graphs, where `prepare_native` has
    found it good.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        gradient: Gradient,
        *,
        outputs: int,
        keeps: Sequence[int] = (),
        option: Literal["int", "int[]", "float", "ScalarType"] | None = None,
        native: Native | None = None,
    ) -> None:
        self.name = name
        self.native = native
        self._python = forward, gradient, keeps
        self._eager = _autograd_function(forward, gradient, keeps)
        self._node = _node(name, forward, gradient, outputs, keeps, option)
        self._outputs = outputs
        if native is not None:
            self._native_eager = _autograd_function(native.forward, native.gradient, native.keeps)
            self._native_node = _node(f"{name}_native", native.forward, native.gradient, outputs, native.keeps, option)
            _WITH_NATIVE.append(self)

    def __call__(self, *operands: Tensor, option: Sequence[object] = ()) -> tuple[Tensor, ...]:
        native = self._takes_native(operands, option)
        if torch.compiler.is_compiling():
            node = self._native_node if native else self._node
            return tuple(node(list(operands), *option)[: self._outputs])
        outputs: tuple[Tensor, ...] = (self._native_eager if native else self._eager).apply(option, *operands)
        return outputs

    def prepare(self, dtypes: Iterable[torch.dtype]) -> None:
        """Load the native form and check it in each of the types; a NotBuiltError says why it is not used."""
        assert self.native is not None
        load(self.native.source)
        unchecked = [dtype for dtype in dtypes if (self.name, dtype) not in KERNELS.ready]
        for dtype in unchecked:
            if why := agrees(self.native, *self._python, dtype):
                raise NotBuiltError(why)
        KERNELS.ready.update((self.name, dtype) for dtype in unchecked)

    def runs_native(self, *operands: Tensor, option: Sequence[object] = ()) -> bool:
        """Whether a call would run in C++, outside of a graph that is being compiled."""
        return not torch.compiler.is_compiling() and self._takes_native(operands, option)

    def _takes_native(self, operands: Sequence[Tensor], option: Sequence[object]) -> bool:
        if not KERNELS.on or self.native is None or operands[0].device.type != "cpu":
            return False
        return (self.name, operands[0].dtype) in KERNELS.ready and self.native.takes(*operands, *option)


_WITH_NATIVE: list[Differentiable] = []


def native_sources(ops: Iterable[str]) -> list[str]:
    """The C++ sources of the native forms that these ops call, and of those that belong to no op."""
    return sorted({function.native.source for function in _called_by(ops) if function.native is not None})


def prepare_native(ops: Iterable[str]) -> dict[str, str]:
    """Build and check the native forms that these ops call, and those that belong to no op; why some are not used."""
    refused = {}
    with torch.no_grad():
        for function in _called_by(ops):
            if function.name not in KERNELS.refused:
                try:
                    function.prepare(types_here())
                except NotBuiltError as error:
                    KERNELS.refused[function.name] = str(error)
            if why := KERNELS.refused.get(function.name):
                refused[function.name] = why
    return refused


def _called_by(ops: Iterable[str]) -> list[Differentiable]:
    """The functions with a native form that these ops call, and those that belong to no op."""
    names = set(ops)
    forms = [(function, function.native) for function in _WITH_NATIVE if function.native is not None]
    return [function for function, native in forms if not (native.ops and names.isdisjoint(native.ops))]


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _autograd_function(forward: Forward, gradient: Gradient, keeps: Sequence[int]) -> type[torch.autograd.Function]:
    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, option: Sequence[object], *operands: Tensor) -> tuple[Tensor, ...]:
            with _without_autocast(operands[0]):
                outputs, rest = forward(*operands, *option)
            given = (*operands, *outputs)
            ctx.save_for_backward(*(given[place] for place in keeps), *rest)
            ctx.option, ctx.operands = option, len(operands)
            return outputs

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            with _without_autocast(gradients[0]):
                found = gradient(gradients, ctx.saved_tensors, *ctx.option)
            return None, *found, *[None] * (ctx.operands - len(found))

    return Eager


def _node(
    name: str, forward: Forward, gradient: Gradient, outputs: int, keeps: Sequence[int], option: str | None
) -> Callable[..., list[Tensor]]:
    more = "" if option is None else f", {option} option"

    def run(operands: list[Tensor], *option: object) -> list[Tensor]:
        with _without_autocast(operands[0]):
            given, rest = forward(*operands, *option)
        return _own((*given, *rest), operands)

    def run_gradient(gradients: list[Tensor], saved: list[Tensor], *option: object) -> list[Tensor]:
        with _without_autocast(gradients[0]):
            found = gradient(tuple(gradients), tuple(saved), *option)
        return _own(found, (*gradients, *saved))

    node = torch.library.custom_op(
        f"assay::{name}", run, mutates_args=(), schema=f"(Tensor[] operands{more}) -> Tensor[]"
    )
    gradient_node = torch.library.custom_op(
        f"assay::{name}_gradient",
        run_gradient,
        mutates_args=(),
        schema=f"(Tensor[] gradients, Tensor[] saved{more}) -> Tensor[]",
    )
    node.register_fake(run)
    gradient_node.register_fake(run_gradient)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        operands, *ctx.option = inputs
        given = (*operands, *output[:outputs])
        ctx.save_for_backward(*(given[place] for place in keeps), *output[outputs:])
        ctx.operands = len(operands)

    def backward(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
        found = gradient_node(list(gradients[:outputs]), list(ctx.saved_tensors), *ctx.option)
        return [*found, *[None] * (ctx.operands - len(found))], *[None] * len(ctx.option)

    node.register_autograd(backward, setup_context=keep)
    return node


def _own(results: Iterable[Tensor], given: Iterable[Tensor]) -> list[Tensor]:
    """`results`, those copied that share memory with what was given or with one before: a node must not return such."""
    seen = {x.untyped_storage()._cdata for x in given}
    own = []
    for x in results:
        storage = x.untyped_storage()._cdata
        own.append(x.clone() if storage in seen else x)
        seen.add(storage)
    return own
