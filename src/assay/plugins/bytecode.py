"""A digest of functions and classes without a source file, as those typed at a prompt or into a notebook."""

import hashlib
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any


def bytecode_digest(things: Iterable[object]) -> str | None:
    """SHA-256 of the bytecode of `things` and of all methods of the classes among them; None where there is none."""
    parts = [text for thing in things for text in _of(thing)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else None


def _of(thing: object) -> Iterator[str]:
    if isinstance(thing, type):
        for base in thing.__mro__[:-1]:
            if base.__module__ == thing.__module__:
                for name, value in vars(base).items():
                    yield from (f"{base.__qualname__}.{name} {text}" for text in _of(_function(value)))
                    if isinstance(value, int | float | str | tuple):
                        yield f"{base.__qualname__}.{name} = {value!r}"
        return
    code = getattr(thing, "__code__", None)
    if isinstance(code, CodeType):
        yield from _of_code(code)
        yield from (repr(cell.cell_contents) for cell in getattr(thing, "__closure__", None) or () if _is_plain(cell))
        yield repr(
            [value for value in getattr(thing, "__defaults__", None) or () if isinstance(value, int | float | str)]
        )


def _function(value: Any) -> object:
    """The plain function behind a method, a property or a wrapped function."""
    for name in ("__func__", "fget", "__wrapped__"):
        value = getattr(value, name, value)
    return value


def _is_plain(cell: Any) -> bool:
    try:
        return isinstance(cell.cell_contents, int | float | str)
    except ValueError:  # an empty cell
        return False


def _of_code(code: CodeType) -> Iterator[str]:
    """Instructions, names and constants, and those of nested code. Line numbers are left out."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
