"""Who registered an item: assay itself, an installed package, a plug-in file, or the Python that calls assay."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from assay.plugins.blame import file_of
from assay.plugins.bytecode import bytecode_digest
from assay.plugins.source_files import OURS, SourceModule, closure, definitions, digest, is_installed


@dataclass(frozen=True)
class Origin:
    """Where an item comes from. `digest` is that of its source; None where it has none or belongs to assay."""

    kind: Literal["built-in", "package", "plug-in", "caller"]
    name: str
    digest: str | None = None
    path: Path | None = field(default=None, compare=False)
    """The file of a plug-in or of the caller."""


@dataclass
class Registrant:
    """A plug-in or package that is or was loaded; its digest is set once all of it is loaded."""

    origin: Origin


@dataclass(frozen=True)
class Registration:
    """Who registered an item, and the file whose code did; for a module that registers on import, that module."""

    registrant: Registrant
    file: str


BUILT_IN = Registrant(Origin("built-in", "assay"))
UNKNOWN = Registration(Registrant(Origin("caller", "<python>")), "")
LOADERS = {str(OURS / "plugins" / name) for name in ("loading.py", "entry_points.py")}
"""Files of assay whose functions execute code from outside; what that registers belongs to the registrant being loaded.
"""
_loading: list[Registrant] = []
_owners: dict[str, Registrant] = {}
"""{file or folder: the registrant it belongs to}."""


@contextmanager
def registering(registrant: Registrant) -> Iterator[None]:
    """Items registered inside the block belong to `registrant`."""
    _loading.append(registrant)
    try:
        yield
    finally:
        _loading.pop()


def own(registrant: Registrant, *places: Path | str) -> None:
    """Items that a file in one of `places` registers belong to `registrant`, now and later."""
    _owners.update(dict.fromkeys(map(str, places), registrant))


def owner_of(file: str) -> Registrant | None:
    """The plug-in or the package that `file` belongs to."""
    if file in _owners:
        return _owners[file]
    return next((_owners[str(folder)] for folder in Path(file).parents if str(folder) in _owners), None)


def registration(package: str, item: object) -> Registration:
    """Who registers `item`, read from the call stack: the owner of the innermost frame that has a known owner.

    Known owners are `package`, which holds the built-in items, plug-ins and installed packages. Without one it is the
    caller: the innermost frame outside assay.
    """
    frame: FrameType | None = sys._getframe(1)
    outside = imported = None
    while frame is not None:
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        if module == package or module.startswith(f"{package}."):
            return Registration(BUILT_IN, file)
        if outside is None and not file.startswith("<frozen ") and not _is_ours(file):
            outside = file
            imported = file if frame.f_code.co_name == "<module>" else None
        if (owner := owner_of(file)) is not None:
            return Registration(owner, imported or file)
        if _loading and file in LOADERS:
            return Registration(_loading[-1], outside or file)
        frame = frame.f_back
    return Registration(Registrant(_caller(outside or "<python>", item)), outside or "<python>")


def caller_of(item: object) -> Origin:
    """The origin of an `item` that neither assay, a package nor a plug-in brought: the calling script or notebook."""
    return _caller(file_of(item), item)


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(OURS)


def _caller(file: str, item: object) -> Origin:
    """The script or notebook whose code registers `item`, with the digest of what defines the item."""
    path = Path(file).resolve()
    if not path.is_file():
        return Origin("caller", "<python>", _definitions_digest(file, item))
    return Origin("caller", path.name, _definitions_digest(file, item), path)


def _definitions_digest(file: str, item: object) -> str | None:
    """Digest of the functions and classes in the files that define `item`; of their bytecode where there is no file."""
    parts = [item, *_attributes(item)]
    files = {file, *(file_of(part) for part in parts if callable(part))}
    contents: dict[str, bytes] = {}
    for path in {Path(name).resolve() for name in files if not _is_installed(name)}:
        try:
            found = closure({path.stem: SourceModule(path, path.read_bytes())}, [path.parent], {})
            for module in found.values():
                if module.data is not None:
                    name = module.path.relative_to(path.parent).as_posix()
                    contents[name] = contents.get(name, b"") + definitions(module.data).encode()
        except (OSError, SyntaxError, ValueError, RecursionError):  # typed at a prompt, or the file was edited since
            return bytecode_digest(part for part in parts if callable(part))
    return digest(contents)


def _attributes(item: object) -> list[Any]:
    return list(vars(item).values()) if hasattr(item, "__dict__") else []


def _is_installed(file: str) -> bool:
    """Whether a file belongs to assay, Python or an installed package; also for built-ins, named by their module."""
    path = Path(file)
    return file in sys.builtin_module_names or is_installed(path.resolve(), path.resolve().parent)
