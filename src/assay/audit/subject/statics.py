"""What a model's own code can remember outside of the model: attributes of its classes, globals of its functions.

Code of libraries is left out: of torch, of whatever else is installed beside it, and of assay itself.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper, cache
from types import CodeType, FunctionType
from typing import Any

import torch

_STORES = {dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]}
_PACKAGES = ("site-packages", "dist-packages")
_ABSENT = object()

Cached = _lru_cache_wrapper
"""What `functools.lru_cache` and `functools.cache` make of a function."""


def is_own_class(value: object) -> bool:
    """Whether `value` is a class that belongs to the model's own code."""
    return isinstance(value, type) and _own(value.__module__)


def attributes_of(kind: type) -> dict[str, Any]:
    """The attributes that a class itself holds, without those that Python makes."""
    return {name: value for name, value in vars(kind).items() if not name.startswith(("__", "_abc_"))}


def globals_of(function: FunctionType) -> dict[str, Any]:
    """The module's globals that a function of the model's own code names, classes of libraries and modules too."""
    if not _own(function.__module__):
        return {}
    known = function.__globals__
    return {name: known[name] for name in _names(function.__code__) if name in known}


def undo_attributes(kind: type) -> Callable[[], None]:
    """A function that gives a class the attributes back that it holds now."""
    held = attributes_of(kind)

    def undo() -> None:
        now = attributes_of(kind)
        for name in now.keys() - held.keys():
            delattr(kind, name)
        for name, value in held.items():
            if now.get(name, _ABSENT) is not value:
                setattr(kind, name, value)

    return undo


def undo_globals(function: FunctionType) -> Callable[[], None] | None:
    """A function that gives the globals that `function` assigns to the values back that they have now."""
    if not _own(function.__module__) or not any(_assigns(code) for code in _codes(function.__code__)):
        return None
    known, names = function.__globals__, _names(function.__code__)
    held = {name: known.get(name, _ABSENT) for name in names}

    def undo() -> None:
        for name, value in held.items():
            if value is _ABSENT:
                known.pop(name, None)
            elif known.get(name, _ABSENT) is not value:
                known[name] = value

    return undo


@cache
def _own(module: str | None) -> bool:
    """Whether a module is the model's own code, by its name and the file it came from."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in ("assay", "torch", ""):
        return top == "__main__"
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return not any(package in file for package in _PACKAGES) and not file.startswith(torch.__path__[0])


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in _codes(code) for name in part.co_names))


def _assigns(code: CodeType) -> bool:
    return not _STORES.isdisjoint(code.co_code[::2])
