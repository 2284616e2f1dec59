"""Decodes token by token with buffers of its own, each step in Python or as one compiled graph.

Shapes: B rows, T tokens of a prompt, V vocabulary.
"""

import shutil
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.layers.mixer import state_tensors
from assay.model.lm import LanguageModel, ModelState

Tell = Callable[[str], None]
Part = TypeVar("Part")


class Decoder:
    """Reads prompts in parallel form and decodes them in lock step, one `step` a token, up to `capacity` tokens a row.

    With `compiled` a step is one graph that writes the state in place, made at the first step (some ten seconds) and
    used for all prompts after it; the model must then keep its weights where they are. Where it cannot be made, `tell`
    hears why in one line and the steps run in Python; the attribute `compiled` says which it is. The model is to be in
    evaluation mode; gradients are not formed.
    """

    def __init__(
        self, model: LanguageModel, batch: int, capacity: int, *, compiled: bool = False, tell: Tell = lambda _: None
    ) -> None:
        self.model = model
        self.batch = batch
        self.capacity = capacity
        self.compiled = compiled and has_compiler(model.head_weight.device, tell)
        self.position = 0
        """The number of tokens read."""
        self._tell = tell
        self._state = model.initial_state(batch, capacity)
        self._graph: _Graph | None = None
        self._filled = False

    @torch.no_grad()
    def start(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """Forget all and read `ids`; the logits after the last of them. A ValueError where there is no room."""
        self._refuse(len(ids), ids.shape[1])
        hidden, self._state = self.model.hidden(ids, self.model.initial_state(self.batch, self.capacity))
        self.position, self._filled = ids.shape[1], False
        return self.model.head(hidden[:, -1])

    @torch.no_grad()
    def step(self, ids: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read one more token a row; the logits after it. A ValueError where there is no room."""
        self._refuse(len(ids), self.position + 1)
        if self.compiled and not self._filled:
            self._fill(ids)
        if self._graph is not None and self._filled:
            logits = self._graph(ids)
        else:
            logits, self._state = self.model.step(ids, self._state)
        self.position += 1
        return logits

    def _fill(self, ids: Tensor) -> None:
        """Put the state where the graph reads it; the first time make the graph, by a step that is forgotten."""
        try:
            if self._graph is None:
                graph = _Graph(self.model, self._state, self.capacity)
                graph(ids)
                self._graph = graph
            self._graph.fill(self._state)
            self._filled = True
        except Exception as error:  # whatever it is: if the model is at fault, the step in Python says so next
            self.compiled = False
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._tell(f"decoding: cannot be compiled here ({why}); running without compiling")

    def _refuse(self, rows: int, tokens: int) -> None:
        most = self.model.max_positions
        if rows != self.batch:
            raise ValueError(f"{rows} rows given; the decoder has {self.batch}")
        if tokens > self.capacity:
            raise ValueError(f"{tokens} tokens given; the decoder has room for {self.capacity}")
        if most is not None and tokens > most:
            raise ValueError(f"{tokens} tokens given; the model has {most} learned positions")


class _Graph:
    """A step of the model as one compiled graph, ids [B] -> logits [B, V], over a state that it owns and writes.

    The graph checks nothing when it is called: its inputs are always the same tensors.
    """

    def __init__(self, model: LanguageModel, state: ModelState, capacity: int) -> None:
        self.model = model
        self.capacity = capacity
        self.state = _own(model.fixed_state(state, capacity), {})

        def advance(ids: Tensor) -> Tensor:
            logits, after = model.step(ids, self.state)
            _write(self.state, after)
            return logits

        self.advance = torch.compile(  # type: ignore[call-overload]  # torch's overloads know no isolate_recompiles
            advance,
            fullgraph=True,
            dynamic=False,
            isolate_recompiles=True,  # without guards, another decoder would else take this one's graph
            options={"guard_filter_fn": lambda guards: [False] * len(guards), "cpp_wrapper": True},
        )

    def fill(self, state: ModelState) -> None:
        """Continue from `state`."""
        _write(self.state, self.model.fixed_state(state, self.capacity))

    def __call__(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.advance(ids)
        return logits


def _own(part: Part, copies: dict[int, Tensor]) -> Part:
    """A copy of a state, in which what was one tensor still is; a TypeError where it holds anything else."""
    if isinstance(part, Tensor):
        return copies.setdefault(id(part), part.clone())  # type: ignore[return-value]
    if not isinstance(part, tuple):
        raise TypeError(f"a state holds {part!r}, which is no tensor: its layer has no `fixed_state` that says how")
    inside = [_own(of, copies) for of in part]
    return type(part)(*inside) if hasattr(part, "_fields") else type(part)(inside)


def _write(state: ModelState, after: ModelState) -> None:
    """Copy the tensors of `after` into those of `state`; a ValueError where their shapes or types differ."""
    written: list[Tensor] = []
    for old, new in zip(state_tensors(state), state_tensors(after), strict=True):
        if old is new or any(old is one for one in written):
            continue
        if old.shape != new.shape or old.dtype != new.dtype:
            raise ValueError(f"a state of {list(old.shape)} became {list(new.shape)}: it has no fixed shape")
        old.copy_(new)
        written.append(old)


def has_compiler(device: torch.device, tell: Tell) -> bool:
    """Whether graphs for `device` can be compiled here; if not, `tell` hears it."""
    if device.type != "cpu" or any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return True
    tell("decoding: no C++ compiler found; running without compiling")
    return False
