"""Interventions on what a model carries from a context to its queries: other states in place of its own.

Shapes: N sequences, C tokens of context, Q tokens after it, V vocabulary. Every tensor of a state starts with the batch
axis, so that the state of another sequence is another row.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from assay.layers.mixer import State
from assay.model.lm import BlockState, LanguageModel, ModelState
from assay.ops.attention_state import AttentionState, WindowState

Path = Literal["state", "cache", "window"]
"""A recurrent state; the keys and values of all tokens; what holds the last few tokens (windows, convolutions, shifts).
"""
Kind = Literal["zero", "mean", "resample", "swap", "noise"]
"""Zeros; the mean over sequences; each layer's state from another sequence; the whole state from one other sequence;
as the control, its own state plus a change as large as that of swap, its elements in random order."""
PATHS: tuple[Path, ...] = get_args(Path)
KINDS: tuple[Kind, ...] = get_args(Kind)
LAST_TOKENS = frozenset({"shift", "convolution", "last"})
"""Fields of a layer's state that hold its inputs of the last tokens."""

Change = Callable[[Tensor, Tensor, int], Tensor]
"""(a tensor of the state [N, ...], the same of the twins, the number of its block) -> what is in its place."""


class Site(NamedTuple):
    """Which part of the state is changed; None is every one."""

    path: Path | None = None
    block: int | None = None


def paths_of(state: ModelState) -> list[Path]:
    """The paths by which the state carries numbers, in the order of `PATHS`."""
    found = {path for block in state.blocks for path, tensor in _tensors(block, "state") if tensor.numel()}
    return [path for path in PATHS if path in found]


def tensors_of(state: State, path: Path) -> list[Tensor]:
    """The tensors of a block's or layer's state that carry numbers by `path`."""
    return [tensor for of, tensor in _tensors(state, "state") if of == path and tensor.ndim > 0]


def changed(state: ModelState, site: Site, change: Change, twin: ModelState | None = None) -> ModelState:
    """`state` with the tensors at `site` replaced; lengths and positions stay.

    `twin`: the state of other sequences of the same lengths, for a change that takes theirs.
    """
    blocks = [
        BlockState(*_changed(block, other, "state", site, change, index)) if site.block in (None, index) else block
        for index, (block, other) in enumerate(zip(state.blocks, (twin or state).blocks, strict=True))
    ]
    return ModelState(state.position, tuple(blocks))


def of_twin(_: Tensor, twin: Tensor, __: int) -> Tensor:
    """The change that takes the twin's state."""
    return twin


def change_of(kind: Kind, generator: torch.Generator) -> Change:
    """The change of that kind; what it draws comes from `generator`, on the CPU."""
    swapped: dict[int, Tensor] = {}

    def others(n: int) -> Int[Tensor, " N"]:
        """Another sequence for each: the next in a random cycle."""
        order = torch.randperm(n, generator=generator)
        found = torch.empty(n, dtype=torch.long)
        found[order] = order.roll(1)
        return found

    def partner(x: Tensor) -> Tensor:
        """The row of the same other sequence for all tensors."""
        if len(x) not in swapped:
            swapped[len(x)] = others(len(x))
        return x[swapped[len(x)].to(x.device)]

    drawn: dict[int, Tensor] = {}

    def resampled(x: Tensor, _: Tensor, block: int) -> Tensor:
        if block not in drawn:
            drawn[block] = others(len(x))
        return x[drawn[block].to(x.device)]

    def noise(x: Tensor, *_: object) -> Tensor:
        difference = (partner(x) - x).flatten(1)
        scores = torch.rand(difference.shape, generator=generator).to(x.device)
        return x + difference.gather(1, scores.argsort(dim=1)).view_as(x)

    changes: dict[Kind, Change] = {
        "zero": lambda x, *_: torch.zeros_like(x),
        "mean": lambda x, *_: x.mean(dim=0, keepdim=True).expand_as(x),
        "resample": resampled,
        "swap": lambda x, *_: partner(x),
        "noise": noise,
    }
    return changes[kind]


@torch.no_grad()
def state_after(model: LanguageModel, context: Int[Tensor, "N C"]) -> ModelState:
    """The state after the context."""
    return model.hidden(context)[1]


def _tensors(state: State, path: Path) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, tuple | list):
        for part, of in zip(state, part_paths(state, path), strict=True):
            yield from _tensors(part, of)


def part_paths(state: Sequence[State], path: Path) -> list[Path]:
    """The path of each part of a state; `path` is that of the whole."""
    if isinstance(state, AttentionState):
        return ["cache"] * len(state)
    if isinstance(state, WindowState):
        return ["window"] * len(state)
    names = getattr(state, "_fields", ("",) * len(state))
    return ["window" if name in LAST_TOKENS else path for name in names]


def _changed(state: State, twin: State, path: Path, site: Site, change: Change, block: int) -> State:
    if isinstance(state, Tensor):
        return change(state, twin, block) if state.ndim > 0 and site.path in (None, path) else state
    if not isinstance(state, tuple | list):
        return state
    parts = [
        _changed(part, other, of, site, change, block)
        for part, other, of in zip(state, twin, part_paths(state, path), strict=True)
    ]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
