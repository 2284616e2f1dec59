"""One step of a model as one compiled graph, over a state of tensors that keep their places and shapes.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from assay.layers.mixer import state_tensors
from assay.model.lm import LanguageModel, ModelState
from assay.ops.stored import teach_compiler
from assay.step_products import DECOMPOSITIONS, Source, packed, written_out

Part = TypeVar("Part")


class StepGraph:
    """A step of the model as one compiled graph, ids [B] -> logits [B, V], over a state that it owns and writes.

    The graph checks nothing when it is called: its inputs are always the same tensors, and copies of matrices as they
    were at the last `fill`.
    """

    def __init__(self, model: LanguageModel, state: ModelState, capacity: int) -> None:
        self.model = model
        self.capacity = capacity
        self.state = own(model.fixed_state(state, capacity), {})
        self._ids: Tensor | None = None
        self._kernels = _Kernels([*model.parameters(), *model.buffers(), *state_tensors(self.state)])
        self.advance: Callable[[Tensor], Tensor] = self._compiled()

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        def advance(ids: Tensor) -> Tensor:
            logits, after = self.model.step(ids, self.state)
            write(self.state, after)
            return logits

        return cast(
            Callable[[Tensor], Tensor],
            torch.compile(  # type: ignore[call-overload]  # torch's overloads know no isolate_recompiles
                advance,
                fullgraph=True,
                dynamic=False,
                backend=self._kernels.compile,
                isolate_recompiles=True,  # without guards, another decoder would else take this one's graph
                options={"guard_filter_fn": lambda guards: [False] * len(guards)},
            ),
        )

    def fill(self, state: ModelState) -> None:
        """Continue from `state`, with the weights as they are now."""
        write(self.state, self.model.fixed_state(state, self.capacity))
        self._kernels.pack()

    def __call__(self, ids: Tensor) -> Tensor:
        if self._ids is None:
            self._ids = ids.clone()
            self._kernels.lasts(self._ids)
        else:
            self._ids.copy_(ids)
        return self._kernels.run() if self._kernels.ready else self.advance(self._ids)


class _Kernels:
    """What the compiler made of a step: one function of tensors that stay the same, called without what torch does
    around it in Python, which takes as long as a small model's step.
    """

    def __init__(self, lasting: Sequence[Tensor]) -> None:
        self._lasting = {id(x) for x in lasting}
        self._call: Callable[[list[Any]], Sequence[Tensor]] | None = None
        self._inputs: list[Tensor] = []
        self._packed: list[tuple[Source, Tensor]] = []
        self.ready = False
        """Whether `run` can be called: after a step whose inputs all last and that gave the logits alone."""

    def lasts(self, x: Tensor) -> None:
        """The tensor will be an input of every call."""
        self._lasting.add(id(x))

    def compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Any], **_: Any) -> Callable[..., Any]:
        """Torch's compiler, as a backend of torch.compile, with a wrapper in C++ around the kernels.

        A step is some hundred small kernels: a wrapper in Python takes longer than they do. So does asking for their
        buffers one by one, and looking at inputs whose shapes never change.
        """
        from torch._functorch import config
        from torch._inductor.compile_fx import compile_fx  # takes a second to import
        from torch._inductor.decomposition import select_decomp_table

        teach_compiler()
        with config.patch(enable_autograd_cache=False):  # from that cache `_inner` would not be called
            compiled: Any = compile_fx(
                graph,
                inputs,
                inner_compile=cast(Any, self._inner),
                config_patches={"cpp_wrapper": True, "memory_planning": True, "size_asserts": False},
                decompositions={**select_decomp_table(), **DECOMPOSITIONS},
            )
        return cast(Callable[..., Any], compiled)

    def _inner(self, graph: torch.fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
        from torch._inductor.compile_fx import compile_fx_inner

        inputs = list(inputs)
        sources = written_out(graph, inputs)
        call: Any = compile_fx_inner(graph, inputs, **options)

        def first(given: list[Any]) -> Sequence[Tensor]:
            """A call as torch makes it, from which the later ones follow."""
            self._packed = [(source, packed(source.rows(given))) for source in sources]
            self._inputs, self._call = [*given, *(matrix for _, matrix in self._packed)], call
            given.clear()
            results = self._call(list(self._inputs))
            same = all(id(x) in self._lasting for x in self._inputs[: len(self._inputs) - len(sources)])
            self.ready = same and len(results) == 1
            return results

        first._boxed_call = True  # type: ignore[attr-defined]  # it may clear its argument
        return first

    def pack(self) -> None:
        """Copy the matrices anew, as the weights are now."""
        for source, matrix in self._packed:
            matrix.copy_(packed(source.rows(self._inputs)))

    def run(self) -> Tensor:
        """The logits of the next step."""
        assert self._call is not None
        (logits,) = self._call(list(self._inputs))
        return logits


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
