"""The version of assay: what of its sources decides the numbers of a run."""

import functools
import hashlib
import importlib.metadata
from pathlib import Path

DECIDING = (
    "config.py",
    "seeding.py",
    "targets.py",
    "ops",
    "layers",
    "model",
    "data",
    "training",
    "evaluation/scoring.py",
    "evaluation/measurements/likelihood.py",
    "study/run.py",
    "study/measure/given.py",
)
"""The sources of assay that decide a run's numbers and the likelihood, on which arms are ranked.

What shows and compares them may change, and so may other measurements, whose results say by which version they are.
"""


@functools.cache
def assay_version() -> str:
    """The version of assay and a short SHA-256 of its sources that decide numbers: "0.1.0 (3f2a9c01b7d4)"."""
    return f"{importlib.metadata.version('assay')} ({sources_digest()})"


@functools.cache
def sources_digest() -> str:
    """That short SHA-256."""
    package = Path(__file__).parents[1]
    sources = hashlib.sha256()
    for place in DECIDING:
        for path in _sources(package / place):
            content = path.read_bytes()
            sources.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return sources.hexdigest()[:12]


def _sources(place: Path) -> list[Path]:
    """The file itself, or the Python and C++ files of a folder."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix in (".py", ".cpp", ".h"))
