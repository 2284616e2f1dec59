"""The environment of a run (versions, machine, threads), which a bit-for-bit repetition must have too."""

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

import torch

from assay.model.plan import ExecutionPlan
from assay.ops.native.processor import processor_name
from assay.training.compiled import UNCOMPILED
from assay.training.native import IN_PYTHON

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
    package = Path(__file__).parents[1]
    sources = hashlib.sha256()
    for place in DECIDING:
        for path in _sources(package / place):
            content = path.read_bytes()
            sources.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return f"{importlib.metadata.version('assay')} ({sources.hexdigest()[:12]})"


def _sources(place: Path) -> list[Path]:
    """The file itself, or the Python and C++ files of a folder."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.rglob("*") if path.suffix in (".py", ".cpp", ".h"))


def environment(plan: ExecutionPlan, compiled: str = UNCOMPILED, ops: str = IN_PYTHON) -> dict[str, str]:
    """What must be equal for a bit-for-bit repetition: machine, build of torch, threads, precision, `compiled` how, in
    which language `ops` ran.
    """
    cuda = torch.cuda.get_device_name(plan.device) if plan.device.startswith("cuda") else ""
    return {
        "assay": assay_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": cuda or processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": plan.device,
        "precision": plan.precision,
        "threads": str(plan.threads),
        "compiled": compiled,
        "ops": ops,
    }
