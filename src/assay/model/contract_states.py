"""Whether a layer's initial state has the types and shapes of the states that its forward returns."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

PLAIN = (int, float, bool, str, type(None))


def state_faults(initial: Any, after: Any, longer: Any, name: str = "the state") -> Iterator[str]:
    """What is wrong with `initial`, given the states that forward returns after some tokens and after more tokens.

    Sizes must be equal, except along an axis that counts tokens: one along which the two states of forward differ, or
    `initial` is empty.
    """
    if isinstance(after, Tensor) and isinstance(initial, Tensor):
        if not _alike(list(initial.shape), list(after.shape), list(longer.shape) if _is_as(after, longer) else []):
            yield f"{name} is {list(initial.shape)}, forward returns {list(after.shape)}"
        elif initial.dtype != after.dtype:
            yield f"{name} is {initial.dtype}, forward returns {after.dtype}"
    elif type(initial) is not type(after):
        yield f"{name} is a {type(initial).__name__}, forward returns a {type(after).__name__}"
    elif isinstance(after, tuple | list):
        if len(initial) != len(after):
            yield f"{name} has {len(initial)} parts, forward returns {len(after)}"
            return
        names = getattr(after, "_fields", [f"{name}[{index}]" for index in range(len(after))])
        more = longer if isinstance(longer, type(after)) and len(longer) == len(after) else after
        for parts in zip(initial, after, more, names, strict=True):
            yield from state_faults(*parts)
    elif not isinstance(after, PLAIN):
        yield f"{name} is a {type(after).__name__}; tensors, numbers, and tuples of them are needed"


def _is_as(after: Tensor, longer: Any) -> bool:
    return isinstance(longer, Tensor) and longer.ndim == after.ndim


def _alike(initial: list[int], after: list[int], longer: list[int]) -> bool:
    """Whether sizes are equal, except along axes that count tokens, which the batch axis (the first) never does."""
    if len(initial) != len(after) or initial[:1] != after[:1]:
        return False
    longer = longer or after
    return all(
        first == later or first == 0 or later != last
        for first, later, last in zip(initial[1:], after[1:], longer[1:], strict=True)
    )
