"""What there is on each plug-in axis, a line each: asked of the registries, and remembered while no source changes.

The registries of architectures and measurements need torch, which takes a second or more to import; what they answered
is therefore kept in the cache's folder, with a hash of all that the answer follows from.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import assay
from assay.cache import cache_folder

Axes = dict[str, dict[str, str]]
"""{axis: {name: what it is}}"""

AXES = ("architectures", "corpora", "tasks", "measurements")


def axes() -> Axes:
    """Those of the built-in items and of installed packages.

    Remembered only where assay alone brings items, as the sources of other packages may change unseen; asked again in a
    process where the registries are there already, as a plug-in may have added to them.
    """
    if "torch" in sys.modules or any(group.startswith("assay.") for group in importlib.metadata.entry_points().groups):
        return ask()
    place, key = cache_folder() / "axes.json", _key()
    remembered = _read(place, key)
    if remembered is None:
        remembered = ask()
        _write(place, key, remembered)
    return remembered


def ask() -> Axes:
    """What the registries say now."""
    from assay.data.corpus import CORPORA
    from assay.data.task import TASKS
    from assay.evaluation.measurement import MEASUREMENTS
    from assay.model.architecture import ARCHITECTURES

    return {
        "architectures": {
            item.name: item.summary if item.unsound is None else f"UNSOUND: {item.summary}" for item in ARCHITECTURES
        },
        "corpora": {item.name: item.description for item in CORPORA},
        "tasks": {item.name: item.summary for item in TASKS},
        "measurements": {item.name: f"{item.group}: {item.question}" for item in MEASUREMENTS},
    }


def _key() -> str:
    """A hash of the version, and of path, size and time of change of every source file of assay."""
    folder = Path(assay.__file__).parent
    files = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*.py"))]
    said = [str(folder), assay.__version__, *(f"{name} {of.st_size} {of.st_mtime_ns}" for name, of in files)]
    return hashlib.sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()


def _read(place: Path, key: str) -> Axes | None:
    """What is remembered under `key`, None where nothing is, or nothing that can be read."""
    try:
        stored = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(stored, dict) and stored.get("key") == key and tuple(stored.get("axes", ())) == AXES
    return dict(stored["axes"]) if whole else None


def _write(place: Path, key: str, found: Axes) -> None:
    """A folder that cannot be written costs the next call its time and nothing else."""
    from assay.records.versioned import write_whole

    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps({"key": key, "axes": found}).encode())
