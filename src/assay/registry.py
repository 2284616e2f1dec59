"""One registry for every plug-in axis: nearest name on a miss, discovery by scan, entry point or file."""

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
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


def load_plugin(path: Path) -> ModuleType:
    """Import the Python file at `path`, which registers what it brings; loading it twice is loading it once."""
    path = path.resolve()
    if not path.is_file():
        raise RequestError(f"--plugin {path}: no such file")
    name = f"assay_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RequestError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _outside[str(path)] = f"--plugin {path}"
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise RequestError(blamed(error) or f"--plugin {path}: {_described(error)}") from error
    return module


def _load_entry(entry: importlib.metadata.EntryPoint) -> None:
    """Import what an installed package registers; its failure is a RequestError that names the package."""
    package = f"package {entry.dist.name}" if entry.dist is not None else f"entry point {entry.name}"
    try:
        entry.load()
    except Exception as error:
        raise RequestError(f"{package}: its entry point {entry.name} = {entry.value}: {_described(error)}") from error
    file = getattr(sys.modules.get(entry.module), "__file__", None)
    if file is not None:
        _outside[file] = f"{package}: {file}"


def blamed(error: BaseException) -> str | None:
    """One line that says where in a plug-in `error` arose, or None where it passed through none."""
    if isinstance(error, SyntaxError) and error.filename in _outside:
        return f"{_outside[error.filename]}: line {error.lineno}: {_described(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _outside]
    return f"{_outside[frames[-1].filename]}: line {frames[-1].lineno}: {_described(error)}" if frames else None


def place_of(function: Callable[..., object]) -> str:
    """What a message calls the first line of `function`: "--plugin FILE: line N", or its module's file and line."""
    code = inspect.unwrap(function).__code__
    return f"{_outside.get(code.co_filename, code.co_filename)}: line {code.co_firstlineno}"


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
