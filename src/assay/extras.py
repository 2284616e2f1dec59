"""How a package that is missing is installed into the Python that runs assay, from wherever that is."""

import importlib.metadata
import re
import shlex
import sys


def brings(package: str) -> str:
    """ "`/path/to/python -m pip install 'datasets<6,>=5.2'` brings it": the version that assay's extras name.

    `assay[hub]` would need assay on a package index; from a clone it is not there.
    """
    try:
        needed = importlib.metadata.requires("assay") or []
    except importlib.metadata.PackageNotFoundError:
        needed = []
    names = [line.partition(";")[0].strip() for line in needed]
    wanted = next((name for name in names if re.split(r"[^\w.-]", name)[0] == package), package)
    return f"`{shlex.quote(sys.executable)} -m pip install {shlex.quote(wanted)}` brings it"
