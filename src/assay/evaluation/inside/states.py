"""The recurrent states of a model along a text, and what becomes of a change that is made to one of them.

States at a position come from reading the text in segments, so that nothing is asked of a layer but what decoding asks.

Shapes: N sequences, T tokens, P positions, C channels of a state: all its axes but the last, or all of a vector.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from assay.evaluation.interventions import Path, part_paths
from assay.layers.basic import Tap
from assay.layers.mixer import State
from assay.model.lm import Block, BlockState, LanguageModel, ModelState
from assay.model.plan import ExecutionPlan
from assay.seeding import derive

Layer = Literal["mixer", "channel_mixer"]
IMPULSE = 0.1
"""The size of a change, over the RMS of the state that it is made to: small, so that recurrences that are not linear
are looked at where they are."""


class Key(NamedTuple):
    """Which recurrent tensor of a model's state it is."""

    block: int
    layer: Layer
    name: str
    """Of its fields, as in `wkv`, and where states lie in states `mamba.ssm`."""


class Call(NamedTuple):
    """What a block was called with for one segment."""

    x: Float[Tensor, "N S D"]
    shared: dict[str, Tensor]


class Trace(NamedTuple):
    """A text that was read up to each of P positions."""

    positions: tuple[int, ...]
    states: dict[Key, list[Float[Tensor, "N ..."]]]
    """Each recurrent tensor after each position, in float32 or wider."""
    start: tuple[BlockState, ...]
    """Everything that the blocks carried after position `begin`."""
    begin: int
    calls: list[list[Call]]
    """For each segment after `begin`, those of the blocks."""


def recurrent_parts(state: BlockState, block: int) -> Iterator[tuple[Key, Tensor]]:
    """The recurrent tensors of a block's state: no keys and values, and no windows of the last tokens."""
    layers: tuple[Layer, ...] = ("mixer", "channel_mixer")
    for layer, of in zip(layers, state, strict=True):
        for name, tensor in _named(of, "state", ""):
            yield Key(block, layer, name), tensor


def _named(state: State, path: Path, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        if path == "state" and state.is_floating_point() and state.ndim > 1 and state.numel():
            yield name, state
    elif isinstance(state, tuple | list):
        fields: Sequence[str] = getattr(state, "_fields", [str(index) for index in range(len(state))])
        for part, field, of in zip(state, fields, part_paths(state, path), strict=True):
            yield from _named(part, of, f"{name}.{field}" if name else field)


def with_part(state: BlockState, key: Key, tensor: Tensor) -> BlockState:
    """The state with another tensor at `key`."""
    return state._replace(**{key.layer: _replaced(getattr(state, key.layer), key.name, tensor)})


def _replaced(state: Any, name: str, tensor: Tensor) -> Any:
    if not name:
        return tensor
    first, _, rest = name.partition(".")
    if hasattr(state, "_fields"):
        return state._replace(**{first: _replaced(getattr(state, first), rest, tensor)})
    parts = [_replaced(part, rest, tensor) if str(index) == first else part for index, part in enumerate(state)]
    return type(state)(parts)


@torch.no_grad()
def read_in_segments(
    model: LanguageModel,
    ids: Int[Tensor, "N T"],
    positions: Sequence[int],
    begin: int,
    plan: ExecutionPlan,
    taps: Callable[[int, str, Tensor], None] = lambda *_: None,
) -> Trace:
    """Read `ids` up to each of the rising `positions`, of which `begin` is one.

    `taps` is told what the named taps of each block see: the block's index, the tap's name in it, the tensor.
    """
    blocks = model.sequence_blocks()
    found: dict[Key, list[Tensor]] = {}
    calls: list[list[Call]] = []
    here: list[Call] = []
    start: tuple[BlockState, ...] = ()
    state: ModelState | None = None

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        here.append(Call(args[0], dict(args[2])))

    hooks = [block.register_forward_pre_hook(before) for block in blocks]
    for index, block in enumerate(blocks):
        for name, tap in block.named_modules():
            if isinstance(tap, Tap):
                hooks.append(tap.register_forward_hook(_telling(taps, index, name)))
    try:
        for low, high in zip((0, *positions), positions, strict=False):
            here.clear()
            with plan.autocast():
                _, state = model.hidden(ids[:, low:high], state)
            for index, of in enumerate(state.blocks):
                for key, tensor in recurrent_parts(of, index):
                    found.setdefault(key, []).append(tensor.to(torch.promote_types(tensor.dtype, torch.float32)))
            if low >= begin:
                calls.append(list(here))
            if high == begin:
                start = state.blocks
    finally:
        for hook in hooks:
            hook.remove()
    return Trace(tuple(positions), found, start, begin, calls)


def _telling(taps: Callable[[int, str, Tensor], None], index: int, name: str) -> Callable[..., None]:
    return lambda _, __, output: taps(index, name, output)


@torch.no_grad()
def survival(model: LanguageModel, trace: Trace, key: Key, first: int, plan: ExecutionPlan) -> Float[Tensor, "P N C"]:
    """What is left of a change to one state after position `begin`, at each position behind it, over what was changed.

    Every element is moved up or down by the same amount, with signs that follow from the sequence's number, counted
    from `first`, and the block reads the same inputs again. What its own state does to a change does not depend on
    other blocks. The root mean square over the last axis of the state gives a number for each channel.
    """
    at = trace.positions.index(trace.begin)
    states = trace.states[key]
    original = states[at]
    change = _change(original, key, first)
    size = change.flatten(1).abs().amax(1).double()
    block: Block = model.sequence_blocks()[key.block]
    own = dict(recurrent_parts(trace.start[key.block], key.block))[key]
    state = with_part(trace.start[key.block], key, (original + change).to(own.dtype))
    left = []
    for calls, reference in zip(trace.calls, states[at + 1 :], strict=True):
        call = calls[key.block]
        with plan.autocast():
            _, state = block(call.x, state, dict(call.shared))
        now = dict(recurrent_parts(state, key.block))[key].to(reference.dtype)
        moved = (now - reference).double() / size.view(-1, *[1] * (now.ndim - 1))
        left.append(moved.abs().flatten(1) if moved.ndim < 3 else moved.square().mean(-1).sqrt().flatten(1))
    return torch.stack(left) if left else original.new_zeros(0, len(original), 1).double()


def _change(state: Float[Tensor, "N ..."], key: Key, first: int) -> Float[Tensor, "N ..."]:
    """IMPULSE times the RMS of each sequence's state, 1 where that is zero, with random signs."""
    rms = state.flatten(1).double().square().mean(1).sqrt()
    scale = torch.where(rms > 0, IMPULSE * rms, 1.0).to(state.dtype)
    signs = []
    for row in range(len(state)):
        generator = torch.Generator().manual_seed(derive(first + row, f"impulse/{key.layer}/{key.name}", key.block))
        signs.append(torch.randint(0, 2, state.shape[1:], generator=generator) * 2 - 1)
    return torch.stack(signs).to(state) * scale.view(-1, *[1] * (state.ndim - 1))
