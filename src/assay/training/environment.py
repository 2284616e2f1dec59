"""The environment of a run (versions, machine, threads), which a bit-for-bit repetition must have too."""

import platform

import torch

from assay.model.plan import ExecutionPlan
from assay.ops.native.processor import processor_name
from assay.training.compiled import UNCOMPILED
from assay.training.native import IN_PYTHON
from assay.training.version import assay_version


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
