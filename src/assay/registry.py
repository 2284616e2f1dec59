"""Registries of named items (architectures, corpora, tasks, ...).

They find built-in and installed items, suggest the nearest name for an unknown one, and know who registered each.
"""

import difflib
import importlib
import importlib.metadata
import pkgutil
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from assay.errors import RequestError
from assay.plugins.entry_points import load_entry
from assay.plugins.origins import UNKNOWN, Origin, Registrant, Registration, owner_of, registration

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
        self._registrations: dict[str, Registration] = {}
        self._discovered = False
        _registries.add(self)

    def register(self, name: str, item: Item) -> Item:
        """Add `item` under `name`; a name taken by another item is a RequestError."""
        if name in self._items and self._items[name] is not item:
            raise RequestError(f"{self.kind} {name!r} is registered twice: give one of them another name")
        if name not in self._items:
            self._registrations[name] = registration(self.package, item)
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

    def origin(self, name: str) -> Origin:
        """Who registered the item called `name`. Items of a package are the package's, even if a script imported it."""
        self.get(name)
        made = self._registrations.get(name, UNKNOWN)
        owner = owner_of(made.file)
        return (owner if owner is not None and owner.origin.kind == "package" else made.registrant).origin

    def __iter__(self) -> Iterator[Item]:
        return (self._items[name] for name in self.names())

    def _forget(self, registrant: Registrant, heirs: Mapping[str, Registrant]) -> None:
        for name, made in list(self._registrations.items()):
            if made.registrant is registrant and made.file in heirs:
                self._registrations[name] = Registration(heirs[made.file], made.file)
            elif made.registrant is registrant:
                del self._registrations[name]
                self._items.pop(name, None)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True  # set first, as modules imported below may use this registry
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
            load_entry(entry)


_registries: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()


def forget(registrant: Registrant, heirs: Mapping[str, Registrant] | None = None) -> None:
    """Remove from every registry what `registrant` registered, but items of files in `heirs` get a new owner."""
    for registry in _registries:
        registry._forget(registrant, heirs or {})


def suggestion(given: str, known: list[str]) -> str:
    """Return "did you mean X?" where a similar name exists, followed by the known names."""
    near = difflib.get_close_matches(given, known, n=1)
    there_is = f"there is {', '.join(sorted(known))}"
    return f"did you mean {near[0]!r}? ({there_is})" if near else there_is
