"""Loads what installed packages register through their entry points."""

import importlib.metadata
import importlib.util
import re

from assay.errors import RequestError
from assay.plugins.blame import blamed, described, know_file, know_folders
from assay.plugins.origins import Origin, Registrant, own, registering
from assay.plugins.source_files import package_digest


def load_entry(entry: importlib.metadata.EntryPoint) -> None:
    """Import what an installed package registers; a failure is a RequestError that names the package, file and line.

    SystemExit counts as a failure too: otherwise the package would end every command of assay.
    """
    name = entry.dist.name if entry.dist is not None else entry.name
    package = f"package {name}" if entry.dist is not None else f"entry point {name}"
    module = re.split(r"[.:]", entry.value.strip())[0]
    registrant = Registrant(Origin("package", name, package_digest(module)))
    _remember(module, package, registrant)
    try:
        with registering(registrant):
            entry.load()
    except (Exception, SystemExit) as error:
        what = blamed(error) or f"{package}: its entry point {entry.name} = {entry.value}: {described(error)}"
        raise RequestError(what) from error


def _remember(module: str, package: str, registrant: Registrant) -> None:
    """Remember that the files of a top-level module belong to `package`, without importing the module."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is not None and spec.submodule_search_locations:
        know_folders(spec.submodule_search_locations, package)
        own(registrant, *spec.submodule_search_locations)
    elif spec is not None and spec.origin is not None:
        know_file(spec.origin, f"{package}: {spec.origin}")
        own(registrant, spec.origin)
