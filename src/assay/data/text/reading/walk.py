"""Finds the files of a folder or a glob: one walk through links too, that meets each real folder and file once."""

import fnmatch
import glob
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assay.errors import RequestError

_EVERYTHING = ("**", "*")

_Identity = tuple[int, int]
"""(device, inode): equal for all names of one folder or file."""


@dataclass
class Found:
    """The files that were found and how many entries were passed over, by reason."""

    files: list[Path] = field(default_factory=list)
    hidden: set[Path] = field(default_factory=set)
    """Files and folders whose names begin with a dot, and `__pycache__`."""
    again: dict[Path, Path] = field(default_factory=dict)
    """{further name, by a link, of a file or folder: the name under which it is read}."""
    broken: set[Path] = field(default_factory=set)
    """Links that lead nowhere, or in a circle of links."""
    special: int = 0
    """Pipes, sockets and devices."""


def walk(path: Path) -> Found:
    """The regular files of the folder or the glob `path`, sorted.

    A folder that a pattern matches stands for all that is in it. A file is named without links where it can be. A
    folder that cannot be read is a RequestError.
    """
    parts = path.parts
    magic = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    whole = os.path.isdir(path)
    root, pattern = (path, _EVERYTHING) if whole else (Path(*parts[:magic]), parts[magic:])
    found = Found()
    names: dict[_Identity, list[Path]] = {}
    for file, status in _matches(root, pattern, found):
        if stat.S_ISREG(status.st_mode):
            places = names.setdefault((status.st_dev, status.st_ino), [])
            if file not in places:
                places.append(file)
        else:
            found.special += 1
    for places in names.values():
        name = min(places, key=lambda place: (place.is_symlink(), place.as_posix()))
        found.files.append(name)
        found.again |= {place: name for place in places if place != name}
    found.files.sort(key=lambda file: file.as_posix())
    return found


def _matches(root: Path, pattern: tuple[str, ...], found: Found) -> Iterator[tuple[Path, os.stat_result]]:
    """Files that match, those that no link leads to first; each folder is looked through once for a pattern."""
    waiting, behind_links = deque([(root, pattern)]), deque[tuple[Path, tuple[str, ...]]]()
    seen: dict[tuple[_Identity, tuple[str, ...]], Path] = {}
    while waiting or behind_links:
        folder, left = (waiting or behind_links).popleft()
        if left[-1:] == ("**",):
            left = (*left, "*")
        status = _status(folder)
        if status is None or not stat.S_ISDIR(status.st_mode):
            continue
        state = (status.st_dev, status.st_ino), left
        if state in seen:
            found.again |= {folder: seen[state]} if folder != seen[state] else {}
            continue
        seen[state] = folder
        first, rest = left[0], left[1:]
        if first == "**":
            waiting.appendleft((folder, rest))
        for entry in _entries(folder, first, found):
            place = folder / entry.name
            status = _status(place)
            if status is None:
                found.broken |= set() if first == "**" else {place}
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if not is_folder and first != "**" and not rest:
                yield place, status
            elif is_folder:
                then = left if first == "**" else rest or _EVERYTHING
                (behind_links if entry.is_symlink() else waiting).append((place, then))


def _entries(folder: Path, part: str, found: Found) -> list[os.DirEntry[str]]:
    """What in `folder` matches one part of a pattern, in order; hidden entries only where the part begins with a dot.

    Links that lead to files come last.
    """
    pattern = "*" if part == "**" else part
    try:
        with os.scandir(folder) as entries:
            matching = [entry for entry in entries if fnmatch.fnmatchcase(entry.name, pattern)]
    except OSError as error:
        raise RequestError(f"--corpus text:{folder}: {error.strerror}") from None
    if not pattern.startswith("."):
        hidden = [entry for entry in matching if entry.name.startswith(".") or entry.name == "__pycache__"]
        found.hidden |= {folder / entry.name for entry in hidden if part != "**" or entry.is_dir()}
        matching = [entry for entry in matching if entry not in hidden]
    return sorted(matching, key=lambda entry: (entry.is_symlink(), entry.name))


def _status(path: Path) -> os.stat_result | None:
    """What the path leads to; None where it leads nowhere or in a circle."""
    try:
        return path.stat()
    except OSError:
        return None
