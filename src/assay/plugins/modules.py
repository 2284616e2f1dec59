"""Imports the modules of a plug-in's folder: by plain names there, under private names in `sys.modules`.

`import helper` in a plug-in, or in a module of its folder, imports that folder's helper.py: these modules get an
`__import__` that looks there first. In `sys.modules` the module has a name that contains its folder, so that two
folders may each have a helper.py. The bytes that were read (and hashed) are executed, never a .pyc file.
"""

import builtins
import functools
import hashlib
import importlib
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from assay.plugins.blame import know_file
from assay.plugins.source_files import Modules, SourceModule, is_installed, located

PRIVATE_NAME = re.compile(r"assay_plugin_(?P<top>[^.]+)_(?P<tag>[0-9a-f]{8})(?P<rest>(\..*)?)")


class PluginFolder:
    """The modules of the folder `root` that plug-ins import.

    `roots` are the folders that the plug-in loaded last imported from.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.roots = [root]
        self.tag = hashlib.sha256(str(root).encode()).hexdigest()[:8]
        self.modules: Modules = {}
        """The modules that may be imported: they were read and are part of a plug-in's digest."""
        self.used: set[str] = set()
        """The names of the modules that the plug-in being loaded imports."""
        self._plugin: tuple[Path, str] | None = None
        """The plug-in that is being loaded, and what messages call it."""

    def private(self, name: str) -> str:
        """The name in `sys.modules` of the module that is imported as `name`."""
        top, dot, rest = name.partition(".")
        return f"assay_plugin_{top}_{self.tag}{dot}{rest}"

    def find(self, name: str) -> SourceModule | None:
        """The module that `name` means in this folder; once the plug-in is loaded, only one that was read by then."""
        if name not in self.modules and self._plugin is not None:
            found = located(name, self.roots, self.modules)
            if found is not None:
                self.modules[name] = found
        if name in self.modules and self._plugin is not None:
            self.used.add(name)
        return self.modules.get(name)

    def drop(self, names: set[str]) -> None:
        """Forget these modules: the next import reads them again."""
        for name in names:
            self.modules.pop(name, None)
            sys.modules.pop(self.private(name), None)

    def imported(self) -> set[str]:
        """The names of the modules that are being or were executed."""
        return {name for name in self.modules if self.private(name) in sys.modules}

    def tell_of(self, path: Path) -> None:
        """Let messages name a file as part of the plug-in that is being loaded."""
        if self._plugin is not None:
            plugin, given = self._plugin
            know_file(path, given if path == plugin else f"{given}: {path.relative_to(self.root)}")

    @contextmanager
    def open(self, plugin: Path, given: str) -> Iterator[None]:
        """Inside the block `plugin`, which messages call `given`, may import modules of its folder that are unread yet.

        importlib.import_module and entries of sys.path inside the folder then find the same modules; afterwards both
        are as before.
        """
        before, self._plugin, self.used = (self._plugin, self.used), (plugin, given), set()
        path, bytecode, self.roots = list(sys.path), sys.dont_write_bytecode, [self.root]
        hidden = {name: sys.modules.pop(name) for name in self._plain_names()}
        finder = _PlainNames(self)
        sys.meta_path.insert(0, finder)
        sys.dont_write_bytecode = True
        try:
            yield
        finally:
            sys.dont_write_bytecode = bytecode
            sys.meta_path.remove(finder)
            inside = [entry for entry in sys.path if entry not in path and self._is_inside(entry)]
            self.roots += [folder for entry in inside if (folder := Path(entry).resolve()) not in self.roots]
            sys.path[:] = [entry for entry in sys.path if entry not in inside]
            for name in finder.aliases:
                sys.modules.pop(name, None)
            sys.modules.update(hidden)
            self._plugin, self.used = before

    def _is_inside(self, entry: str) -> bool:
        return Path(entry).resolve().is_relative_to(self.root)

    def _plain_names(self) -> list[str]:
        """Names in `sys.modules` that modules here have as plain names; Python would return those instead."""
        there = {path.stem for path in self.root.iterdir() if path.suffix == ".py" or path.is_dir()}
        tops = {name for name in there & {name.partition(".")[0] for name in sys.modules} if self._means(name)}
        return [name for name in sys.modules if name.partition(".")[0] in tops]

    def _means(self, name: str) -> bool:
        """Whether a plain name means a module of this folder rather than an installed one that is imported already."""
        found, file = located(name, [self.root], {}), getattr(sys.modules.get(name), "__file__", None)
        return found is not None and found.data is not None and not (file and is_installed(Path(file), self.root))

    def asks(self, name: str) -> bool:
        """Whether the running import of `name` is in a file of this folder other than the one that `name` means."""
        frame, machinery = sys._getframe(1), ("<frozen ", importlib.__file__, __file__)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(machinery):
            frame = frame.f_back
        file, meant = Path(frame.f_code.co_filename), self.modules.get(name)
        itself = meant is not None and not meant.is_package and meant.path == file
        return not itself and file.is_relative_to(self.root) and not is_installed(file, self.root)


def folder_of(path: Path) -> PluginFolder:
    """The one PluginFolder of the folder that the file `path` is in."""
    folder = PluginFolder(path.parent)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    return _finder.folders.setdefault(folder.tag, folder)


class _Loader(SourceFileLoader):
    """Executes the bytes that were read, with imports that look into the plug-in's folder first."""

    def __init__(self, private: str, path: Path, name: str, folder: PluginFolder) -> None:
        super().__init__(private, str(path))
        self._module, self._name, self._folder = folder.modules[name], name, folder

    def get_data(self, path: str) -> bytes:
        """The bytes that were read of the module; for any other file, its contents."""
        return (self._module.data or b"") if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        """The module's code, compiled from those bytes."""
        return self.source_to_code(self._module.data or b"", self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        self._folder.tell_of(self._module.path)
        hook = functools.partial(_import, self._folder, self._name)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": hook}
        super().exec_module(module)


def _import(
    folder: PluginFolder,
    importer: str,
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """What `import name` does in the module `importer` of `folder`. A file's own name does not mean the file itself, as
    a random.py may well import Python's random.
    """
    top, asks = name.partition(".")[0], folder.modules.get(importer)
    itself = top == importer and asks is not None and not asks.is_package
    if level or itself or folder.find(top) is None:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    current = sys.modules.get(folder.private(importer))
    if globals is not None and (current is None or vars(current) is not globals):
        raise ImportError(
            f"{name} is asked for by code that is no longer loaded: {importer} was loaded anew, or failed"
        )
    module = builtins.__import__(folder.private(name), globals, locals, fromlist or (), 0)
    return module if fromlist else sys.modules[folder.private(top)]


class _PrivateNames(importlib.abc.MetaPathFinder):
    """Finds the modules of plug-ins' folders under their private names."""

    def __init__(self) -> None:
        self.folders: dict[str, PluginFolder] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for every name that is not private to a plug-in's folder."""
        match = PRIVATE_NAME.fullmatch(fullname)
        if match is None or match["tag"] not in self.folders:
            return None
        folder, name = self.folders[match["tag"]], match["top"] + match["rest"]
        module = folder.find(name)
        if module is None:
            raise ModuleNotFoundError(f"No module named {name!r} when the plug-in was loaded", name=fullname)
        if module.data is None:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(module.path)]
            return spec
        inside = [str(module.folder)] if module.is_package else None
        loader = _Loader(fullname, module.path, name, folder)
        return importlib.util.spec_from_file_location(
            fullname, module.path, loader=loader, submodule_search_locations=inside
        )


class _PlainNames(importlib.abc.MetaPathFinder):
    """While a plug-in is loaded, lets importlib and sys.path find its folder's modules under their private names."""

    def __init__(self, folder: PluginFolder) -> None:
        self.folder = folder
        self.aliases: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for what does not lie in the folder."""
        if PRIVATE_NAME.fullmatch(fullname) or not self.folder.asks(fullname):
            return None
        if self.folder.find(fullname) is None and not self._is_on_path(fullname, path):
            return None
        self.aliases.append(fullname)
        return importlib.util.spec_from_loader(fullname, _Alias(self.folder.private(fullname)))

    def _is_on_path(self, fullname: str, path: Sequence[str] | None) -> bool:
        spec = PathFinder.find_spec(fullname, path)
        file = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        root = self.folder.root
        if file is None or file.suffix != ".py" or not file.is_relative_to(root) or is_installed(file, root):
            return False
        self.folder.modules[fullname] = SourceModule(file, file.read_bytes(), file.name == "__init__.py")
        self.folder.find(fullname)
        return True


class _Alias(importlib.abc.Loader):
    """Loads, under a plain name, the module that exists under a private name."""

    def __init__(self, private: str) -> None:
        self._private = private

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the private name."""
        module = importlib.import_module(self._private)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module was executed under its private name."""
        module.__spec__ = self._spec


_finder = _PrivateNames()
