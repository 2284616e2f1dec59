"""Builds the C++ sources of this folder with the machine's own compiler, once, into assay's cache.

The compiler's results depend on the sources, the flags, the compiler, the processor and torch: all are in the name of
the library, so that none of another machine or version is ever loaded.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from assay.cache import cache_folder
from assay.ops.native.processor import processor_name

FOLDER = Path(__file__).parent
FLAGS = ("-O3", "-std=c++20", "-shared", "-fPIC", "-march=native", "-fopenmp", "-w")
LONGEST_SECONDS = 300


class NotBuiltError(Exception):
    """Why a source has no library here, in one line."""


def library_of(source: str) -> Path:
    """The library of `source`.cpp, built where it is not there yet; a NotBuiltError where it cannot be."""
    compiler = _compiler()
    if compiler is None:
        raise NotBuiltError("no C++ compiler found")
    library = _place(source, compiler)
    if not library.exists():
        _build(compiler, FOLDER / f"{source}.cpp", library)
    return library


def build_missing(sources: Sequence[str], tell: Callable[[str], None]) -> None:
    """Build the libraries that are not there yet, as many at a time as there are cores; a line says so before.

    What fails is left to `library_of`, which says why.
    """
    compiler = _compiler()
    missing = [source for source in sources if compiler and not _place(source, compiler).exists()]
    if not missing:
        return
    tell(f"building the C++ forms of ops, once on this machine ({len(missing)} files, a few seconds each)")
    longest_first = sorted(missing, key=lambda source: -(FOLDER / f"{source}.cpp").stat().st_size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done in [pool.submit(library_of, source) for source in longest_first]:
            with contextlib.suppress(NotBuiltError):
                done.result()


def _compiler() -> str | None:
    return os.environ.get("CXX") or next(filter(shutil.which, ("g++", "c++", "clang++")), None)


def _place(source: str, compiler: str) -> Path:
    return cache_folder() / "native" / f"{source}-{_fingerprint(source, compiler)}.so"


def _fingerprint(source: str, compiler: str) -> str:
    found = hashlib.sha256()
    for path in (FOLDER / f"{source}.cpp", *sorted(FOLDER.glob("*.h"))):
        found.update(path.read_bytes())
    version = _output([compiler, "--version"])
    machine = (
        platform.machine(),
        processor_name(),
        torch.backends.cpu.get_cpu_capability(),
        str(torch.cpu.get_capabilities()),
    )
    for text in (*FLAGS, version, torch.__version__, *machine):
        found.update(text.encode())
    return found.hexdigest()[:16]


def _build(compiler: str, source: Path, library: Path) -> None:
    """Compile to a file of its own first: another process may build the same one."""
    package = Path(torch.__file__).parent
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        places = [f"-I{FOLDER}", f"-I{package / 'include'}", f"-L{package / 'lib'}"]
        _output([compiler, *FLAGS, *places, str(source), "-o", str(made), "-ltorch_cpu", "-lc10"])
        os.replace(made, library)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise NotBuiltError(f"{command[0]}: {lines[0].strip()[:200] if lines else 'failed'}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NotBuiltError(f"{command[0]}: {str(error).splitlines()[0][:200]}") from None
    return done.stdout
