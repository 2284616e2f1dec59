"""Loads plug-in files with the modules they import from their folder, and again when any of these files has changed."""

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from assay.errors import RequestError
from assay.plugins.blame import blamed, described
from assay.plugins.modules import PluginFolder, folder_of
from assay.plugins.origins import Origin, Registrant, own, registering
from assay.plugins.source_files import Modules, SourceModule, closure, digest, is_installed, located
from assay.registry import forget


@dataclass(frozen=True)
class PluginSource:
    """The source of a loaded plug-in: `digest` is the SHA-256 of the contents and relative paths of `files`.

    `files` are the plug-in and the modules it imports from its folder, also those imported inside functions.
    """

    name: str
    path: Path
    digest: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Loaded:
    source: PluginSource
    given: str
    modules: Modules
    roots: list[Path]
    registrant: Registrant


_loaded: dict[Path, _Loaded] = {}


def load_plugin(path: Path, option: str = "--plugin") -> ModuleType:
    """Execute the Python file at `path`, which registers its items, and return its module.

    Loading it again does nothing, unless one of its files has changed: then everything that it registered is removed
    and it is loaded anew, and so are other plug-ins of its folder that have changed. Nothing stays registered after a
    load that fails.

    Messages start with `option`, the option by which the user gave the file ("" for an argument), and the path.
    """
    return _up_to_date(path.resolve(), f"{option} {path}".strip())


def loaded_plugins() -> list[PluginSource]:
    """The plug-in files that are loaded, in the order of loading."""
    return [loaded.source for loaded in _loaded.values()]


def plugin_source(path: Path) -> PluginSource:
    """The source of the loaded plug-in at `path`; a RequestError where it is not loaded."""
    if path.resolve() not in _loaded:
        raise RequestError(f"{path}: not loaded as a plug-in")
    return _loaded[path.resolve()].source


def _up_to_date(path: Path, given: str) -> ModuleType:
    folder = folder_of(path)
    try:
        if not path.is_file():
            raise RequestError("no such file")
        if path.suffix != ".py":
            raise RequestError("not a Python file")
        if _is_unchanged(path, folder):
            return sys.modules[folder.private(_name(path))]
        current = _read(path, {}, [folder.root])
    except (OSError, RequestError) as error:
        _unload(path, folder)
        raise RequestError(f"{given}: {described(error)}") from error
    return _load(path, folder, current, given)


def _name(path: Path) -> str:
    """The name of the plug-in's module; a colon stands for the dot, so that the file is not taken for a package."""
    return path.stem.replace(".", ":")


def _read(path: Path, seen: Modules, roots: list[Path]) -> Modules:
    """The plug-in's modules as they are on disk now: its file, what it imports, and what it imported when last loaded
    (`seen`).
    """
    start = {_name(path): SourceModule(path, path.read_bytes())}
    for name in sorted(seen):
        found = located(name, roots, start)
        if found is None and seen[name].path.is_file():  # the plug-in had loaded this file by its own code
            found = replace(seen[name], data=seen[name].path.read_bytes())
        if found is not None:
            start.setdefault(name, found)
    return closure(start, roots, {})


def _is_unchanged(path: Path, folder: PluginFolder) -> bool:
    old = _loaded.get(path)
    if old is None or folder.private(_name(path)) not in sys.modules:
        return False
    return _read(path, old.modules, old.roots) == old.modules


def _load(path: Path, folder: PluginFolder, current: Modules, given: str) -> ModuleType:
    """Unload its old version and load it, and then reload the plug-ins of the same folder that have changed."""
    changed = {other: loaded for other, loaded in _beside(path).items() if not _is_current(loaded)}
    for old in (path, *changed):
        _unload(old, folder)
    module = _execute(path, folder, current, given)
    for other, loaded in changed.items():
        if other.is_file():  # a plug-in whose file was deleted is not loaded again
            _up_to_date(other, loaded.given)
    return module


def _beside(path: Path) -> dict[Path, _Loaded]:
    return {other: loaded for other, loaded in _loaded.items() if other.parent == path.parent and other != path}


def _is_current(loaded: _Loaded) -> bool:
    try:
        return all(m.data is None or m.path.read_bytes() == m.data for m in loaded.modules.values())
    except OSError:
        return False


def _unload(path: Path, folder: PluginFolder) -> None:
    """Remove the plug-in, its modules and what they registered, except modules that an unchanged plug-in uses too."""
    if path not in _loaded:
        return
    gone = _loaded.pop(path)
    kept = [loaded for loaded in _beside(path).values() if _is_current(loaded)]
    forget(gone.registrant, {str(file): loaded.registrant for loaded in kept for file in loaded.source.files})
    folder.drop(set(gone.modules) - {name for loaded in kept for name in loaded.modules})


def _execute(path: Path, folder: PluginFolder, current: Modules, given: str) -> ModuleType:
    registrant = Registrant(Origin("plug-in", path.name, path=path))
    files = [module.path for module in current.values() if module.data is not None]
    own(registrant, *files)
    before, names, known = dict(folder.modules), folder.imported(), set(sys.modules)
    folder.modules.update(current)
    try:
        with folder.open(path, given), registering(registrant):
            for file in files:
                folder.tell_of(file)
            module = importlib.import_module(folder.private(_name(path)))
            used = {name: folder.modules[name] for name in folder.used}
        modules = closure({**current, **used}, folder.roots, folder.modules) | _loaded_otherwise(folder, known)
    except BaseException as error:
        forget(registrant)
        folder.drop(folder.imported() - names)
        folder.modules = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise RequestError(blamed(error) or f"{given}: {described(error)}") from error
    folder.modules.update(modules)
    source = _source(path, modules)
    registrant.origin = Origin("plug-in", source.name, source.digest, path)
    own(registrant, *source.files)
    _loaded[path] = _Loaded(source, given, modules, list(folder.roots), registrant)
    return module


def _loaded_otherwise(folder: PluginFolder, known: set[str]) -> Modules:
    """Modules that the plug-in itself loaded from its folder, as with importlib.util.spec_from_file_location."""
    there = {module.path for module in folder.modules.values()}
    files = [getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - known]
    paths = {Path(file).resolve() for file in files if file is not None and file.endswith(".py")}
    extras = [path for path in paths - there if path.is_relative_to(folder.root) and path.is_file()]
    return {
        f"/{path.relative_to(folder.root).as_posix()}": SourceModule(path, path.read_bytes())
        for path in extras
        if not is_installed(path, folder.root)
    }


def _source(path: Path, modules: Modules) -> PluginSource:
    contents = {module.path: module.data for module in modules.values() if module.data is not None}
    relative = {file.relative_to(path.parent).as_posix(): data for file, data in contents.items()}
    return PluginSource(path.name, path, digest(relative), tuple(sorted(contents)))
