"""Saves and restores everything a model can remember between two calls.

Starting from a module, that is: submodules, parameters, buffers, plain attributes, and the containers, objects and
closures they hold; of the model's own code also attributes of classes, globals that functions name, and what
`functools.lru_cache` keeps, which is emptied. They are restored in place, so that a dictionary that two layers share is
still shared afterwards. Hooks are left alone: whoever registers one removes it.
"""

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence, MutableSet
from operator import eq, is_
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from assay.audit.subject.statics import (
    Cached,
    attributes_of,
    globals_of,
    is_own_class,
    undo_attributes,
    undo_globals,
)
from assay.evaluation.generators import is_generator, put_back

_OPAQUE = (str, bytes, int, float, complex, bool, type, ModuleType, BuiltinFunctionType, torch.dtype, torch.device)
MAX_OBJECTS = 200_000


class Memory:
    """A snapshot of models, or of other objects. `restore()` can be called any number of times.

    Restoring keeps the identity of objects: tensors get their old storage and values, containers their old members,
    parameters their old `.grad` and `requires_grad`, modules their old mode.
    """

    def __init__(self, *owners: object) -> None:
        self._undo: list[Callable[[], object]] = []
        for value in reachable(*owners):
            undo = _undo(value)
            if undo is not None:
                self._undo.append(undo)

    def restore(self) -> None:
        """Put everything back as it was when the snapshot was taken."""
        for undo in self._undo:
            undo()


def reachable(*owners: object) -> Iterator[Any]:
    """Every module, tensor, container and stateful object that can be reached from `owners`, each once."""
    seen: set[int] = set()
    waiting: list[Any] = list(owners)
    while waiting and len(seen) < MAX_OBJECTS:
        value = waiting.pop()
        if value is None or id(value) in seen or (isinstance(value, _OPAQUE) and not is_own_class(value)):
            continue
        seen.add(id(value))
        yield value
        waiting.extend(_members(value))


def _members(value: Any) -> list[Any]:
    if isinstance(value, Tensor) or is_generator(value):
        return []
    if isinstance(value, FunctionType):
        named = globals_of(value).values()
        return [*(value.__closure__ or ()), *(value.__defaults__ or ()), *vars(value).values(), *named]
    if isinstance(value, type):
        return [*attributes_of(value).values(), *value.__bases__]
    if isinstance(value, Cached | staticmethod | classmethod):
        return [value.__wrapped__]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, CellType):
        return [contents_of_cell(value)]
    if isinstance(value, MutableMapping):
        return list(value.values())
    if isinstance(value, list | tuple | deque | set | frozenset):
        return list(value)
    members = vars(value) if hasattr(value, "__dict__") else {}
    return [type(value), *(member for name, member in members.items() if "_hooks" not in name)]


def _undo(value: Any) -> Callable[[], object] | None:
    if isinstance(value, Tensor):
        return _undo_tensor(value)
    if is_generator(value):
        return put_back(value)
    if isinstance(value, type):
        return undo_attributes(value)
    if isinstance(value, Cached):
        return value.cache_clear
    if isinstance(value, FunctionType):
        return undo_globals(value)
    if isinstance(value, CellType):
        contents = contents_of_cell(value)
        return lambda: setattr(value, "cell_contents", contents)
    if isinstance(value, MutableMapping):
        return _refill(value, dict(value))
    if isinstance(value, MutableSequence | MutableSet | deque):
        return _refill(value, list(value))
    if hasattr(value, "__dict__") and not isinstance(value, MethodType | staticmethod | classmethod):
        # Written to the dictionary itself: a module's own __setattr__ would register things.
        return _refill(vars(value), dict(vars(value)))
    return None


def _undo_tensor(tensor: Tensor) -> Callable[[], None]:
    storage = tensor.data
    values = None if 0 in storage.stride() else storage.clone()
    requires, gradient = (tensor.requires_grad, tensor.grad) if tensor.is_leaf else (None, None)
    gradient_values = None if gradient is None else gradient.detach().clone()

    def undo() -> None:
        if tensor.data_ptr() != storage.data_ptr() or tensor.dtype != storage.dtype or tensor.shape != storage.shape:
            tensor.data = storage
        if values is not None:
            storage.copy_(values)
        if tensor.grad_fn is not None and requires is not None:  # a cache that was written into with gradients
            tensor.detach_()
        if requires is not None:
            tensor.requires_grad_(requires)
            tensor.grad = gradient
        if gradient is not None and gradient_values is not None:
            gradient.data.copy_(gradient_values)

    return undo


def _refill(container: Any, members: Any) -> Callable[[], None]:
    """What puts the members of a container back where they are not the very same objects in the same order."""
    if isinstance(members, dict):
        keys, values = tuple(members), tuple(members.values())

        def refill() -> None:
            if len(container) != len(keys) or not (
                all(map(is_, container.values(), values)) and all(map(eq, container, keys))
            ):
                container.clear()
                container.update(members)

        return refill

    def undo() -> None:
        if len(container) != len(members) or not all(map(is_, container, members)):
            container.clear()
            for member in members:
                container.add(member) if isinstance(container, MutableSet) else container.append(member)

    return undo


def contents_of_cell(cell: CellType) -> Any:
    """The value of a closure's variable; None for one that has not been set."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
