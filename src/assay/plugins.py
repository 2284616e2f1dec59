"""Plug-in files: loaded with what they import from their folder, known by a digest of it, loaded anew when changed."""

import importlib
import sys
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import ModuleType

from assay.blame import blamed, described
from assay.errors import RequestError
from assay.origins import Origin, Registrant, own, registering
from assay.plugin_modules import PluginFolder, folder_of
from assay.registry import forget
from assay.source_files import Modules, SourceModule, closure, digest, is_installed, located


@dataclass(frozen=True)
class PluginSource:
    """What a loaded plug-in is: `digest` is the SHA-256 of `files`, by their contents and places in its folder.

    `files` are the plug-in and what it imports from its folder, also where the import is in a function.
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
    registrant: Registrant


_loaded: dict[Path, _Loaded] = {}


def load_plugin(path: Path, option: str = "--plugin") -> ModuleType:
    """Execute the Python file at `path`, which registers what it brings, and return its module.

    Loading it again does nothing, unless it or a file that it is made of has changed: then all that it registered is
    forgotten and it is loaded anew, and so are other plug-ins of its folder that have changed. A load that fails
    leaves nothing of it.

    `option` is how a user gave it, "" for an argument: messages start with that and the path.
    """
    given, path = f"{option} {path}".strip(), path.resolve()
    if not path.is_file():
        raise RequestError(f"{given}: no such file")
    if path.suffix != ".py":
        raise RequestError(f"{given}: not a Python file")
    folder = folder_of(path)
    current, private = _read(path, folder, given), folder.private(_name(path))
    if path in _loaded and current == _loaded[path].modules and private in sys.modules:
        return sys.modules[private]
    others = {other: loaded for other, loaded in _loaded.items() if other.parent == path.parent and other != path}
    changed = {other: loaded for other, loaded in others.items() if not _is_current(loaded)}
    for other in (path, *changed):
        _unload(other, folder, [loaded for kept, loaded in others.items() if kept not in changed])
    module = _execute(path, folder, current, given)
    for other, loaded in changed.items():
        if other not in _loaded:
            _execute(other, folder, _read(other, folder, loaded.given), loaded.given)
    return module


def loaded_plugins() -> list[PluginSource]:
    """The plug-in files that are loaded, in the order of loading."""
    return [loaded.source for loaded in _loaded.values()]


def plugin_source(path: Path) -> PluginSource:
    """What the loaded plug-in at `path` is; a RequestError where it is not loaded."""
    if path.resolve() not in _loaded:
        raise RequestError(f"{path}: not loaded as a plug-in")
    return _loaded[path.resolve()].source


def _name(path: Path) -> str:
    """What a plug-in is imported as; a colon for a dot, as the file is no package."""
    return path.stem.replace(".", ":")


def _read(path: Path, folder: PluginFolder, given: str) -> Modules:
    """The plug-in as it is on disk now: its file, what it imports, what it was seen to import when it was loaded.

    Where it cannot be read it is unloaded.
    """
    try:
        start = {_name(path): SourceModule(path, path.read_bytes())}
        for name, module in sorted(_loaded[path].modules.items(), key=itemgetter(0)) if path in _loaded else ():
            extra = SourceModule(module.path, module.path.read_bytes()) if _is_extra(name) else None
            found = extra or located(name, folder.roots, start)
            if found is not None:
                start.setdefault(name, found)
        return closure(start, folder.roots, {})
    except (OSError, RequestError) as error:
        _unload(path, folder, [])
        raise RequestError(f"{given}: {error if isinstance(error, RequestError) else described(error)}") from error


def _is_current(loaded: _Loaded) -> bool:
    try:
        return all(m.data is None or m.path.read_bytes() == m.data for m in loaded.modules.values())
    except OSError:
        return False


def _unload(path: Path, folder: PluginFolder, kept: list[_Loaded]) -> None:
    """Forget the plug-in, its modules and what they registered, but for those that the plug-ins `kept` share."""
    if path not in _loaded:
        return
    gone = _loaded.pop(path)
    heirs = {str(file): loaded.registrant for loaded in kept for file in loaded.source.files}
    forget(gone.registrant, heirs)
    shared = {name for loaded in kept for name in loaded.modules}
    folder.drop(set(gone.modules) - shared)


def _execute(path: Path, folder: PluginFolder, current: Modules, given: str) -> ModuleType:
    registrant = Registrant(Origin("plug-in", path.name, path=path))
    own(registrant, *(module.path for module in current.values() if module.data is not None))
    before, names, known = dict(folder.modules), folder.imported(), set(sys.modules)
    folder.modules.update(current)
    try:
        with folder.open(path, given), registering(registrant):
            module = importlib.import_module(folder.private(_name(path)))
            used = {name: folder.modules[name] for name in folder.used}
        modules = closure({**current, **used}, folder.roots, folder.modules) | _loaded_otherwise(folder, known)
    except BaseException as error:
        forget(registrant)
        folder.drop(folder.imported() - names)
        folder.modules = before
        if not isinstance(error, Exception | SystemExit):
            raise
        raise RequestError(blamed(error) or f"{given}: {described(error)}") from error
    folder.modules.update(modules)
    source = _source(path, modules)
    registrant.origin = Origin("plug-in", source.name, source.digest, path)
    own(registrant, *source.files)
    _loaded[path] = _Loaded(source, given, modules, registrant)
    return module


def _loaded_otherwise(folder: PluginFolder, known: set[str]) -> Modules:
    """What the plug-in loaded from its folder by means of its own, as with importlib.util.spec_from_file_location."""
    there = {module.path for module in folder.modules.values()}
    files = [getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - known]
    paths = {Path(file).resolve() for file in files if file is not None and file.endswith(".py")}
    extras = [path for path in paths - there if path.is_relative_to(folder.root) and path.is_file()]
    return {
        f"/{path.relative_to(folder.root).as_posix()}": SourceModule(path, path.read_bytes())
        for path in extras
        if not is_installed(path, folder.root)
    }


def _is_extra(name: str) -> bool:
    return name.startswith("/")


def _source(path: Path, modules: Modules) -> PluginSource:
    contents = {module.path: module.data for module in modules.values() if module.data is not None}
    relative = {file.relative_to(path.parent).as_posix(): data for file, data in contents.items()}
    return PluginSource(path.name, path, digest(relative), tuple(sorted(contents)))
