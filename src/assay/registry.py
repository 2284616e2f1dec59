"""One registry for every plug-in axis: nearest name on a miss, discovery by scan, entry point or file."""

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterator
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
            entry.load()


def suggestion(given: str, known: list[str]) -> str:
    """Return "did you mean X?" where a near name exists, followed by what there is."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    there_is = f"there is {', '.join(sorted(known))}"
    return f"did you mean {near[0]!r}? ({there_is})" if near else there_is


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
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        text = " ".join(str(error).split())
        raise RequestError(f"--plugin {path}: {_line(path, error)}{type(error).__name__}: {text}") from error
    return module


def _line(path: Path, error: BaseException) -> str:
    """Return "line N: ", the innermost line of the file at `path` on the way to `error`, or "" if there is none."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: " if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
