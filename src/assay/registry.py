"""One registry for every plug-in axis: nearest name on a miss, discovery by scan, entry point or file."""

import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Generic, TypeVar

from assay.errors import RequestError

Item = TypeVar("Item")


class Registry(Generic[Item]):
    """Named items of one kind. The built-in ones live in `package`, one file each, and are found by a scan.

    Installed packages add theirs through the entry point group `assay.<kind>s`, or `group` where the plural is
    another; loading the entry point must import the module that registers them.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group or f"assay.{kind}s"
        self._items: dict[str, Item] = {}
        self._discovered = False

    def register(self, name: str, item: Item) -> Item:
        """Add `item` under `name`; a name taken by another item is a RequestError."""
        if name in self._items and self._items[name] is not item:
            raise RequestError(f"{self.kind} {name!r} is registered twice: give one of them another name")
        self._items[name] = item
        return item

    def get(self, name: str) -> Item:
        """Return the item called `name`, or raise a RequestError that offers the nearest name."""
        self._discover()
        if name in self._items:
            return self._items[name]
        raise RequestError(f"unknown {self.kind} {name!r}: {suggestion(name, list(self._items))}")

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._items)

    def __iter__(self) -> Iterator[Item]:
        return (self._items[name] for name in self.names())

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # set first: what is imported below may ask for names
        try:
            self._import_all()
        except BaseException:
            self._discovered = False
            raise

    def _import_all(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, prefix=f"{self.package}."):
            importlib.import_module(module.name)
        for entry in importlib.metadata.entry_points(group=self.group):
            _load_entry(entry)


def suggestion(given: str, known: list[str]) -> str:
    """Return "did you mean X?" where a near name exists, followed by what there is."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    there_is = f"there is {', '.join(sorted(known))}"
    return f"did you mean {near[0]!r}? ({there_is})" if near else there_is


_outside: dict[str, str] = {}
"""Files that are not ours, and what a message calls each."""
_packages: dict[str, str] = {}
"""Folders of installed packages that bring something, and what a message calls each package."""


def load_plugin(path: Path, option: str = "--plugin") -> ModuleType:
    """Import the Python file at `path`, which registers what it brings; loading it twice is loading it once.

    `option` is how a user gave it, "" for an argument: messages start with that and the path.
    """
    given, path = f"{option} {path}".strip(), path.resolve()
    if not path.is_file():
        raise RequestError(f"{given}: no such file")
    name = f"assay_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"{given}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _outside[str(path)] = given
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise RequestError(blamed(error) or f"{given}: {described(error)}") from error
    return module


def _load_entry(entry: importlib.metadata.EntryPoint) -> None:
    """Import what an installed package registers; its failure is a RequestError that names the package, file and line.

    SystemExit is a failure too: it would end every command.
    """
    package = f"package {entry.dist.name}" if entry.dist is not None else f"entry point {entry.name}"
    _remember(re.split(r"[.:]", entry.value.strip())[0], package)
    try:
        entry.load()
    except (Exception, SystemExit) as error:
        what = blamed(error) or f"{package}: its entry point {entry.name} = {entry.value}: {described(error)}"
        raise RequestError(what) from error


def _remember(module: str, package: str) -> None:
    """Know the files of a top-level module, which is not imported, as those of `package`."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is not None and spec.submodule_search_locations:
        _packages.update(dict.fromkeys(spec.submodule_search_locations, package))
    elif spec is not None and spec.origin is not None:
        _outside[spec.origin] = f"{package}: {spec.origin}"


def blamed(error: BaseException) -> str | None:
    """One line that says where in a plug-in `error`, or what caused it, arose; None where it passed through none."""
    if isinstance(error, SyntaxError) and error.filename and (name := _called(error.filename)):
        return f"{name}: line {error.lineno}: {described(error)}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if name := _called(frame.filename):
            return f"{name}: line {frame.lineno}: {described(error, frame.line)}"
    return None if error.__cause__ is None else blamed(error.__cause__)


def described(error: BaseException, line: str | None = None) -> str:
    """The exception's type and its text in one line; the line of source that raised it where there is no text."""
    text = " ".join(str(error).split()) or line
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(*things: object) -> str:
    """What a message calls the first line of a function or class: "--plugin FILE: line N", or its file and line.

    Of several things the first that a plug-in or a package brought, else the first.
    """
    thing = next((thing for thing in things if is_brought(thing)), things[0])
    file = _file(thing)
    return f"{_called(file) or file}: line {_line(thing)}"


def is_brought(*things: object) -> bool:
    """Whether one of the functions and classes comes from a plug-in or an installed package."""
    return any(_called(_file(thing)) for thing in things)


def _called(file: str) -> str | None:
    """What a message calls a file that is not ours."""
    if file in _outside:
        return _outside[file]
    package = next((name for folder, name in _packages.items() if Path(file).is_relative_to(folder)), None)
    return None if package is None else f"{package}: {file}"


def _file(thing: object) -> str:
    """Where a function or a class is defined; of another object its class."""
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
