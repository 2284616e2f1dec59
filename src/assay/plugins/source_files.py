"""Finds the Python files that a plug-in consists of, itself and what it imports from its folder, and hashes them.

Imports are read from the source, those inside functions too; nothing is executed.
"""

import ast
import builtins
import hashlib
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.errors import RequestError

OURS = Path(__file__).resolve().parents[1]
_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_INSTALLED = {"site-packages", "dist-packages"}
_IMPORTS = (ast.Import, ast.ImportFrom)
_BUILT_IN = set(dir(builtins))
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class SourceModule:
    """A module as it was read: its path and contents. A folder without `__init__.py` has a path and no contents."""

    path: Path
    data: bytes | None
    is_package: bool = False

    @property
    def folder(self) -> Path:
        """The folder in which the modules of a package lie."""
        return self.path if self.data is None else self.path.parent


Modules = dict[str, SourceModule]
"""{dotted name as it stands in an import: module}."""


def closure(start: Mapping[str, SourceModule], roots: list[Path], read: Mapping[str, SourceModule]) -> Modules:
    """The modules of `start` and all that they import from the folders `roots`; those in `read` are not read again.

    An import of a name that both a file there and a module of Python have is a RequestError: it could mean either.
    """
    found, to_do = dict(start), list(start)
    while to_do:
        name = to_do.pop()
        own = {module.path for module in start.values()}
        for wanted in sorted(imported_names(name, found[name])):
            _refuse_python_name(wanted.partition(".")[0], roots, own)
            parts = wanted.split(".")
            for inner in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
                if inner not in found and (module := read.get(inner) or located(inner, roots, found)) is not None:
                    found[inner] = module
                    to_do.append(inner)
    return found


def located(name: str, roots: Iterable[Path], known: Mapping[str, SourceModule]) -> SourceModule | None:
    """Read the module with the dotted name `name` below `roots`; its parent is in `known`. None where there is none.

    Modules of assay, Python or installed packages are not returned, wherever they lie.
    """
    parent, _, last = name.rpartition(".")
    if parent:
        folders = [known[parent].folder] if parent in known and known[parent].is_package else []
    else:
        folders = [] if last == "assay" or last in sys.stdlib_module_names else list(roots)
    if not last.isidentifier():
        return None
    for folder in folders:
        for path in (folder / last / "__init__.py", folder / f"{last}.py"):
            if path.is_file() and not is_installed(path, folder):
                return SourceModule(path, path.read_bytes(), is_package=path.name == "__init__.py")
    for path in (folder / last for folder in folders):
        if path.is_dir() and not is_installed(path, path.parent) and (parent or not _is_elsewhere(last)):
            return SourceModule(path, None, is_package=True)
    return None


def is_installed(path: Path, root: Path) -> bool:
    """Whether `path` belongs to assay, Python, an installed package, or a virtual environment below `root`."""
    places = {OURS, *_LIBRARIES}
    prefix = Path(sys.prefix).resolve()
    if prefix != root and prefix.is_relative_to(root):
        places.add(prefix)
    return bool(_INSTALLED & set(path.parts)) or any(path.is_relative_to(place) for place in places)


def _is_elsewhere(name: str) -> bool:
    """Whether Python finds a module `name` (a folder without `__init__.py` does not count); an import then means it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _refuse_python_name(name: str, roots: list[Path], own: set[Path]) -> None:
    if name not in sys.stdlib_module_names:
        return
    for path in (path for root in roots for path in (root / f"{name}.py", root / name / "__init__.py")):
        if path.is_file() and path not in own:
            raise RequestError(f"{path}: has the name of a module of Python that is imported; my_{name} would do")


def imported_names(name: str, module: SourceModule) -> set[str]:
    """Every dotted name that the module called `name` imports; `from a import b` is both a and a.b."""
    try:
        tree = _parsed(module.data or b"")
    except (SyntaxError, ValueError, RecursionError):  # executing the module raises the error, with its line
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if module.is_package else name.split(".")[:-1]
            parents = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            if base and (parents or not node.level):
                names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _called(node.func) in {"import_module", "__import__"}:
            given = node.args[0] if node.args else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str) and not given.value.startswith("."):
                names.add(given.value)
    return names


def _called(function: ast.expr) -> str | None:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def _parsed(data: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # executing the module shows the same warnings
        return ast.parse(data)


def digest(contents: Mapping[str, bytes]) -> str:
    """SHA-256 of {relative name: bytes}, independent of the order."""
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(f"{name}\0{len(contents[name])}\0".encode())
        total.update(contents[name])
    return total.hexdigest()


def package_digest(module: str) -> str | None:
    """Digest of all .py files of an installed top-level module or package; None where it has none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = {path: folder.parent for folder in folders for path in folder.rglob("*.py")}
    if not folders and spec.origin is not None and spec.origin.endswith(".py"):
        files = {Path(spec.origin): Path(spec.origin).parent}
    if not files:
        return None
    return digest({path.relative_to(root).as_posix(): path.read_bytes() for path, root in files.items()})


def definitions(data: bytes) -> str:
    """The functions and classes of a source file, and the top-level statements that affect them, as text to hash.

    Such statements are those that assign names that the definitions read, and those that mention a definition or such a
    name, as a call that registers one or changes a table. Comments are left out, and so is everything that calls
    `compare`: a script that asks for more seeds still defines the same architectures.
    """
    tree = _parsed(data)
    parts = [part for part in _outermost(tree) if not _compares(part)]
    others = [node for node in tree.body if not isinstance(node, (*_DEFINITIONS, *_IMPORTS)) and not _compares(node)]
    while True:
        concerned = {name for part in parts for name in _names(part)}
        more = [node for node in others if node not in parts and concerned & _touched(node)]
        if not more:
            return "\n".join(ast.dump(part) for part in parts)
        parts += more


def _compares(node: ast.AST) -> bool:
    """Whether the node contains a call of something named compare."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(getattr(call, "attr", getattr(call, "id", None)) == "compare" for call in calls)


def _names(part: ast.AST) -> set[str]:
    """The name of a definition, and the names that it reads."""
    own = {part.name} if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else set()
    return own | {node.id for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _touched(node: ast.AST) -> set[str]:
    """The names that a statement could change: the targets of an assignment, or all names in any other statement."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return _targets(node)
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} - _BUILT_IN


def _outermost(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _DEFINITIONS):
            yield node
        else:
            yield from _outermost(node)


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
