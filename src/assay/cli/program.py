"""How the user called assay, so that commands in messages work as they stand there."""

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`assay` where that is found, else the path of the script, or `python -m assay`, as it was called."""
    called = sys.argv[0] if sys.argv else ""
    if Path(called).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m assay"
    if Path(called).stem != "assay" or Path(called).name == called:
        return "assay"
    found = shutil.which("assay")
    same = found is not None and Path(found).resolve() == Path(called).resolve()
    return "assay" if same else shlex.quote(called)


def as_called(text: str) -> str:
    """`text` with every command of assay in backticks as the user would type it."""
    return text.replace("`assay ", f"`{program()} ")
