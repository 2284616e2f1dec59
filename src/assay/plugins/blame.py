"""Whose code an error came from: a line for messages that names the plug-in or installed package, file and line."""

import functools
import inspect
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

from assay.errors import RequestError

_outside: dict[str, str] = {}
"""{file that is not assay's: what messages call it}."""
_packages: dict[str, str] = {}
"""{folder of an installed package that registers something: what messages call the package}."""


def know_file(file: Path | str, called: str) -> None:
    """From now on messages call `file`, which is not assay's, `called`."""
    _outside[str(file)] = called


def know_folders(folders: Iterable[str], package: str) -> None:
    """From now on messages call a file in one of `folders` "PACKAGE: FILE"."""
    _packages.update(dict.fromkeys(folders, package))


def blamed(error: BaseException) -> str | None:
    """One line that says where in a plug-in `error`, or its cause, was raised; None where no plug-in was involved.

    A text that names the plug-in's file itself stays as it is.
    """
    if isinstance(error, SyntaxError) and error.filename and (name := _called(error.filename)):
        return f"{name}: line {error.lineno}: {described(error)}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if name := _called(frame.filename):
            text = described(error, frame.line)
            return text if text.startswith(f"{name}: ") else f"{name}: line {frame.lineno}: {text}"
    return None if error.__cause__ is None else blamed(error.__cause__)


def described(error: BaseException, line: str | None = None) -> str:
    """The exception's type and text in one line; without a text, the source line that raised it.

    The text of a RequestError is the whole line.
    """
    text = " ".join(str(error).split()) or line
    if isinstance(error, RequestError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(*things: object) -> str:
    """What a message calls the place where a function or class is defined: "--plugin FILE: line N", or file and line.

    Of several `things` the first that comes from a plug-in or package counts, else the first.
    """
    thing = next((thing for thing in things if is_brought(thing)), things[0])
    file = file_of(thing)
    return f"{_called(file) or file}: line {_line(thing)}"


def is_brought(*things: object) -> bool:
    """Whether one of the functions and classes comes from a plug-in or an installed package."""
    return any(_called(file_of(thing)) for thing in things)


def _called(file: str) -> str | None:
    """What a message calls a file that is not assay's; None if it is not known."""
    if file in _outside:
        return _outside[file]
    package = next((name for folder, name in _packages.items() if Path(file).is_relative_to(folder)), None)
    return None if package is None else f"{package}: {file}"


def file_of(thing: object) -> str:
    """The file in which a function or class is defined; for another object, that of its class."""
    code = _code(thing)
    try:
        return code.co_filename if code is not None else inspect.getfile(_class(thing))
    except (OSError, TypeError):  # built into Python, or typed at a prompt
        return _class(thing).__module__


def _line(thing: object) -> int:
    code = _code(thing)
    try:
        return code.co_firstlineno if code is not None else inspect.getsourcelines(_class(thing))[1]
    except (OSError, TypeError):
        return 0


def _code(thing: object) -> CodeType | None:
    while isinstance(thing, functools.partial):
        thing = thing.func
    code = getattr(inspect.unwrap(thing), "__code__", None) if callable(thing) else None
    return code if isinstance(code, CodeType) else None


def _class(thing: object) -> type:
    while isinstance(thing, functools.partial):
        thing = thing.func
    return thing if isinstance(thing, type) else type(thing)
