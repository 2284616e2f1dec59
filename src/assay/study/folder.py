"""The folder of a study or run: what it holds already, whether that fits the request, and the lock on it."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from assay.config import flat, read_yaml
from assay.errors import RequestError
from assay.records import is_part, write_whole
from assay.study.asked import StudyConfig

ASKED_ELSEWHERE = {"measurements", "plugins"}
"""What a run may be asked more of: no part of what decides its numbers, or compared by itself."""

PATIENCE_SECONDS = 5.0
"""How long a run waits for its lock: a worker whose parent was killed is about to die."""


def stored_config(folder: Path, kind: Literal["study", "run"]) -> StudyConfig | None:
    """The configuration of the study or run that `folder` holds, None where it is new or empty.

    A file, a folder that holds anything else, and one that an older version of assay began, are a RequestError.
    """
    if not os.path.exists(folder):  # unlike Path.exists, False (and no exception) without permission to look
        return None
    if not folder.is_dir():
        raise RequestError(f"--out {folder}: is a file; give a folder")
    if not (folder / "config.yaml").exists():
        if any(entry.name != ".lock" and not is_part(entry.name) for entry in folder.iterdir()):
            raise RequestError(f"--out {folder}: holds other files; give a new folder, or leave --out away")
        return None
    values = read_yaml(folder / "config.yaml")
    if values.get("version") == 1:
        raise RequestError(
            f"--out {folder}: was made by an older assay (version 1), whose studies and runs are read (report, audit, "
            "generate, export) and not continued; a new folder would do"
        )
    stored = StudyConfig.read(folder / "config.yaml")
    if stored.kind != kind:
        raise RequestError(f"--out {folder}: holds a {stored.kind}, and a {kind} needs a folder of its own")
    return stored


def refuse_older(folder: Path) -> None:
    """Raise a RequestError where an older version of assay began the study: its defaults were others."""
    version = read_yaml(folder / "config.yaml").get("version") if (folder / "config.yaml").exists() else None
    if version in (2, 3, 4):
        raise RequestError(
            f"--out {folder}: was made by an older assay (version {version}), whose studies are shown and measured, "
            "and not continued; a new folder would do"
        )


def refuse_other_run(stored: StudyConfig, asked: StudyConfig, folder: Path) -> None:
    """Raise a RequestError that names the first key in which two runs differ, and both values, if they do."""
    refuse_other_plugins(stored, asked, folder)
    one, other = (
        flat({**run.model_dump(mode="json", exclude={*ASKED_ELSEWHERE, "added", "arms", "needs"}), **_only_arm(run)})
        for run in (stored, asked)
    )
    for key in {**one, **other}:
        if one.get(key) != other.get(key):
            refuse_value(folder, key, one.get(key), other.get(key))
    old, new = stored.needs or {}, asked.needs or {}
    for name in [*old, *new]:
        if old.get(name) != new.get(name):
            refuse_changed(folder, name, where_it_stands(folder))


def refuse_changed(folder: Path, what: str, since: str) -> None:
    """Raise a RequestError that says that code was edited after runs were made with it."""
    raise RequestError(f"--out {folder}: {what} changed since {since}; a new folder would do")


def _only_arm(run: StudyConfig) -> dict[str, object]:
    return {"arm": run.arms[0].model_dump(mode="json")}


def refuse_value(folder: Path, key: str, stored: object, asked: object) -> None:
    """Raise a RequestError that says that a setting differs from the one in the folder."""
    raise RequestError(
        f"--out {folder}: {key} is {shown(stored)} there and {shown(asked)} now; a new folder, or the same value, "
        "would do"
    )


def refuse_other_plugins(stored: StudyConfig, asked: StudyConfig, folder: Path) -> None:
    """Raise a RequestError where a plug-in was edited: the study would mix two models under one name.

    The message says how far the runs made with the old one are.
    """
    old = {Path(plugin.path).name: plugin.sha256 for plugin in stored.plugins}
    for plugin in asked.plugins:
        name = Path(plugin.path).name
        if plugin.sha256 and not plugin.measures_only and old.get(name) not in (None, "", plugin.sha256):
            refuse_changed(folder, name, where_it_stands(folder, name))


def where_it_stands(folder: Path, plugin: str | None = None) -> str:
    """How far the runs in `folder` that need `plugin` have come, in words, as in "step 40 of ema-seed0"."""
    places = [folder, *sorted(path.parent for path in folder.glob("runs/*/config.yaml"))]
    ended = "the study began"
    for place in places:
        values = read_yaml(place / "config.yaml")
        names = [Path(str(item.get("path"))).name for item in values.get("plugins") or []]
        if (plugin is not None and plugin not in names) or (place / "runs").exists():
            continue
        name = f"{values['arms'][0]['label']}-seed{values['seeds'][0]}"
        if (place / "record.json").exists():
            ended = f"the end of {name}"
        elif (place / "checkpoint" / "progress.json").exists():
            return f"step {json.loads((place / 'checkpoint' / 'progress.json').read_bytes())['step']} of {name}"
        else:
            ended = f"the start of {name}"
    return ended


def open_folder(folder: Path, resolved: StudyConfig) -> list[Path]:
    """Create `folder` with the resolved configuration in it; return the folders that were created, innermost first."""
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


def open_run(folder: Path, resolved: StudyConfig) -> None:
    """The same for a run, whose config.yaml then says what is measured now."""
    open_folder(folder, resolved)
    with lock(folder, PATIENCE_SECONDS):
        ask_anew(folder, resolved)


def ask_anew(folder: Path, resolved: StudyConfig) -> None:
    """Where the run was asked for other measurements before, make its config.yaml say those of now.

    The caller holds the lock of the run.
    """
    stored = StudyConfig.read(folder / "config.yaml")
    if stored.measurements != resolved.measurements:
        asked = {name: getattr(resolved, name) for name in ASKED_ELSEWHERE}
        rewrite_config(folder, stored.model_copy(update=asked))


def discard(made: Sequence[Path]) -> None:
    """Remove the folders that `open_folder` created: the innermost with its contents, its parents if they are empty."""
    for folder in made[:1]:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in made[1:]:
        with contextlib.suppress(OSError):
            parent.rmdir()


def rewrite_config(folder: Path, resolved: StudyConfig) -> None:
    """Replace the config.yaml in `folder` by that of the study that has grown."""
    write_whole(folder / "config.yaml", resolved.to_yaml().encode())


def lock(folder: Path, patience_seconds: float = 1.0) -> FileLock:
    """The lock of a study or run, which is freed when the process ends; RequestError where another process holds it.

    `patience_seconds`: how long to wait for another process that is about to end.
    """
    held = FileLock(folder / ".lock")
    try:
        held.acquire(timeout=patience_seconds)
    except Timeout:
        raise RequestError(f"--out {folder}: another process works there; wait for it or give another folder") from None
    return held


def shown(value: object) -> str:
    """The value of a setting as text for a message."""
    return "not set" if value is None else str(value)
