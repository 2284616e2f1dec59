"""Which part of a tensor inside a model should be the same in two runs, read from the tensor's shape alone.

A pairing takes a tensor of the first run and the same one of the second, and returns views of both that must agree. It
returns none where the tensor has no part that must agree: a recurrent layer's final state, say, has no axis of
positions.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

EXTRA_POSITIONS = 16
"""How many more positions than tokens a tensor may have: attention sinks at the front, a convolution's padding."""


@dataclass(frozen=True)
class Views:
    """Two views that must agree. `axis` is that of positions or rows (None if there is none); index 0 is `first`."""

    before: Tensor
    after: Tensor
    axis: int | None
    first: int = 0


Pairing = Callable[[Tensor, Tensor], list[Views]]


def everything(before: Tensor, after: Tensor) -> list[Views]:
    """Pairing for the same call made twice: the whole tensors must agree."""
    return [Views(before, after, None)] if before.shape == after.shape else []


def up_to(length: int, count: int, axes_of: Mapping[int, tuple[int, ...]] | None = None) -> Pairing:
    """Pairing for two runs of `length` tokens that share the first `count`: these positions must agree.

    `axes_of` gives the axes of positions by the `id()` of a tensor of the first run; for other tensors they are those
    as long as the sequence.
    """

    def views(before: Tensor, after: Tensor) -> list[Views]:
        if before.shape != after.shape:
            return []
        known = None if axes_of is None else axes_of.get(id(before))
        axes = _time_axes(before, length) if known is None else list(known)
        return _narrowed(before, after, axes, count) if axes else []

    return views


def from_position(length: int, first: int) -> Pairing:
    """Pairing for two runs of `length` tokens whose positions from `first` on must agree."""

    def views(before: Tensor, after: Tensor) -> list[Views]:
        if before.shape != after.shape:
            return []
        axes = _time_axes(before, length)
        for axis in axes:
            before, after = (tensor.narrow(axis, first, length - first) for tensor in (before, after))
        return [Views(before, after, axes[0], first)] if axes else []

    return views


def prefix_of(length: int, count: int) -> Pairing:
    """Pairing for a run of `length` tokens (or rows) and one of its first `count` alone: those must agree."""

    def views(before: Tensor, after: Tensor) -> list[Views]:
        if before.ndim != after.ndim:
            return []
        differing = [a for a in range(before.ndim) if before.shape[a] != after.shape[a]]
        if not differing or any((before.shape[a], after.shape[a]) != (length, count) for a in differing):
            return []
        return _narrowed(before, after, differing, count)

    return views


def step_at(length: int, position: int, count: int = 1) -> Pairing:
    """Pairing for a run of `length` tokens and a call with a state on its `count` tokens from `position` on."""

    def views(before: Tensor, after: Tensor) -> list[Views]:
        if before.ndim != after.ndim:
            return []
        axes = [a for a in range(before.ndim) if before.shape[a] != after.shape[a]]
        if len(axes) != 1 or (before.shape[axes[0]], after.shape[axes[0]]) != (length, count):
            return []
        return [Views(before.narrow(axes[0], position, count), after, axes[0], position)]

    return views


def rows_but(batch: int, length: int, replaced: Collection[int]) -> Pairing:
    """Pairing for two batches [batch, length] that differ in the `replaced` rows only: all other rows must agree."""
    kept = [row for row in range(batch) if row not in replaced]
    starts = [row for row in kept if row - 1 not in kept]
    ends = [row + 1 for row in kept if row + 1 not in kept]

    def views(before: Tensor, after: Tensor) -> list[Views]:
        shape = before.shape
        if shape != after.shape or not shape:
            return []
        if shape[0] == batch * length:
            before, after = before.unflatten(0, (batch, length)), after.unflatten(0, (batch, length))
        elif shape[0] != batch and (len(shape) == 1 or shape[1] != batch):
            return []
        axis = 0 if before.shape[0] == batch else 1
        return [
            Views(before.narrow(axis, start, end - start), after.narrow(axis, start, end - start), axis, start)
            for start, end in zip(starts, ends, strict=True)
        ]

    return views


def _time_axes(tensor: Tensor, length: int) -> list[int]:
    exact = [axis for axis, size in enumerate(tensor.shape) if size == length]
    if exact or tensor.ndim < 3:
        return exact
    return [axis for axis, size in enumerate(tensor.shape) if length < size <= length + EXTRA_POSITIONS][:1]


def _narrowed(before: Tensor, after: Tensor, axes: list[int], count: int) -> list[Views]:
    for axis in axes:
        before, after = before.narrow(axis, 0, count), after.narrow(axis, 0, count)
    return [Views(before, after, axes[0])]
