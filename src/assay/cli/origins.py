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
    if message[match.end() :] == ": missing":
        paths += [path.rpartition(".")[0] for path in paths if "." in path]
    rest = message[match.end() :]
    for path in paths:
        for key in (text.partition("=")[0].strip() for text in reversed(sets)):
            if path == key or path.endswith(f".{key}") or path.startswith(f"{key}."):
                return f"--set {key}{rest}"
        if file is not None and _holds(file, path):
            return f"--config {file}: {paths[0]}{rest}"
    return message


def of_file_arms(message: str, file: Path) -> str:
    """`message` with the file before it where it begins with an arm of the file, or a dimension of one."""
    from assay.config import flat, read_yaml

    try:
        arms = read_yaml(file).get("arms")
    except RequestError:
        return message
    for arm in arms if isinstance(arms, list) else []:
        begins = [arm] if isinstance(arm, str) else []
        if isinstance(arm, dict):
            begins += [str(arm.get("label") or arm.get("architecture"))]
            begins += [f"model{key}" for key in flat({"": arm.get("model") or {}})]
        if any(message.startswith(f"{begin}: ") for begin in begins):
            return f"--config {file}: arms: {message}"
    return message


def _holds(file: Path, path: str) -> bool:
    """Whether the file gives a value to the dotted `path`, to something in it, or to a list that it is in."""
    from assay.config import flat, read_yaml

    try:
        values = read_yaml(file)
    except RequestError:
        return False
    return any(f"{leaf}.".startswith(f"{path}.") or path.startswith(f"{leaf}.") for leaf in flat(values))
