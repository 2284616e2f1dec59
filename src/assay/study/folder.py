"""The folder of a study or run: what it holds already, whether that is the same request, and who works there."""

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from assay.config import read_yaml
from assay.errors import RequestError
from assay.records import write_whole
from assay.study.protocol import StudyConfig


def stored_config(folder: Path) -> StudyConfig | None:
    """The configuration of the study or run that `folder` holds, None where it is new or empty.

    A file, or a folder that holds something else, is a RequestError.
    """
    if not os.path.exists(folder):  # unlike Path.exists, False where it may not look
        return None
    if not folder.is_dir():
        raise RequestError(f"--out {folder}: is a file; give a folder")
    if not (folder / "config.yaml").exists():
        if any(entry.name != ".lock" for entry in folder.iterdir()):
            raise RequestError(f"--out {folder}: holds other files; give a new folder, or leave --out away")
        return None
    return StudyConfig.parse(read_yaml(folder / "config.yaml"))


def refuse_other(stored: StudyConfig, asked: StudyConfig, folder: Path) -> None:
    """Raise a RequestError that names the keys in which the stored and the asked study differ, if any do."""
    if stored.identity() != asked.identity():
        a, b = _flat(stored.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
        keys = sorted(key for key in {**a, **b} if not key.startswith("plan") and a.get(key) != b.get(key))
        raise RequestError(f"--out {folder}: holds another study ({', '.join(keys)} differ); give a new folder")


def open_folder(folder: Path, resolved: StudyConfig) -> list[Path]:
    """Create `folder` with the resolved configuration in it; return the folders that this made, innermost first."""
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.yaml").exists():
            write_whole(folder / "config.yaml", resolved.to_yaml().encode())
    except OSError as error:
        discard(made)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RequestError(f"--out {folder}: {error.strerror}; give a folder that can be written") from None
    return made


def discard(made: Sequence[Path]) -> None:
    """Take back what `open_folder` made: the folder with all it holds, and its parents where they hold no more."""
    for folder in made[:1]:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in made[1:]:
        with contextlib.suppress(OSError):
            parent.rmdir()


def lock(folder: Path) -> FileLock:
    """The lock of a study or run, freed when the process dies; a second process is refused in one line."""
    held = FileLock(folder / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise RequestError(f"--out {folder}: another process works there; wait for it or give another folder") from None
    return held


def _flat(values: object, path: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(values, dict):
        return {path: values}
    parts = [_flat(value, f"{path}.{key}" if path else str(key)) for key, value in values.items()]
    return {key: value for part in parts for key, value in part.items()}
