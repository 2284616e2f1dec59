"""Messages name where a setting was given: a key of the file or of --set, not a flag that nobody gave."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.errors import RequestError

FLAG = re.compile(r"(--[a-z][a-z-]*)(?: \(([\w.]+)\))?(?=[ :])")
KEY = re.compile(r"([a-z_]\w*(?:\.\w+)*)(?=[ :])")


def as_given(
    message: str, flags: Mapping[str, str], given: Sequence[str], sets: Sequence[str], file: Path | None
) -> str:
    """`message` with the flag or key that it begins with as the user wrote it.

    `flags` are {dotted key: flag}, `given` the flags on the command line, `sets` the texts of --set, `file` is that of
    --config.
    """
    if (match := FLAG.match(message)) is not None:
        if match[1] in given:
            return message
        paths = [match[2]] if match[2] else [path for path, flag in flags.items() if flag == match[1]]
    elif (match := KEY.match(message)) is not None:
        paths = [match[1]]
    else:
        return message
    rest = message[match.end() :]
    for path in paths:
        for key in (text.partition("=")[0].strip() for text in reversed(sets)):
            if path == key or path.endswith(f".{key}"):
                return f"--set {key}{rest}"
        if file is not None and _holds(file, path):
            return f"--config {file}: {path}{rest}"
    return message


def _holds(file: Path, path: str) -> bool:
    """Whether the file gives a value to the dotted `path`, or to something in it."""
    from assay.config import flat, read_yaml

    try:
        values = read_yaml(file)
    except RequestError:
        return False
    return any(leaf == path or leaf.startswith(f"{path}.") for leaf in flat(values))
