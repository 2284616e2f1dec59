"""Memory: the peak of a stretch of work, what is free now, and what training a model will take."""

import contextlib
import ctypes
import gc
import re
import sys
from pathlib import Path
from typing import ClassVar

import torch

from assay.model.accounting import count_parameters
from assay.model.architecture import Architecture, ModelConfig
from assay.model.plan import memory_bytes
from assay.model.sizing import build_on_meta
from assay.training.config import TrainingConfig

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
LOGIT_BYTES = 16
"""A logit in float32, its gradient and what the loss keeps beside them."""


class PeakMemory:
    """Starts a measurement on construction; `bytes()` reads it, None where it would not be that of this work alone.

    On a CPU that is where the high-water mark cannot be reset, and where the process is `used`.
    """

    used: ClassVar[bool] = False
    """Whether the process has carried out another run: its memory begins with what torch kept of that."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.measurable = True
        else:
            self.measurable = self.device.type == "cpu" and not self.used and _reset_high_water_mark()

    def bytes(self) -> int | None:
        """Resident bytes of the process at the peak (CPU), allocated bytes on the device at the peak (CUDA)."""
        if not self.measurable:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
        return None if match is None else int(match[1]) * 1024


def _reset_high_water_mark() -> bool:
    """Reset the process's high-water mark, which Linux can (proc(5), clear_refs); return whether it worked.

    Freed memory is first returned to the system, so that it is not counted for the next run.
    """
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def training_bytes(architecture: Architecture, config: ModelConfig, training: TrainingConfig) -> int:
    """A generous estimate: weights, gradients, AdamW's moments and the activations of a batch."""
    tokens = training.micro_batch_tokens or training.batch_tokens
    parameters = count_parameters(build_on_meta(architecture, config)).total
    return 16 * parameters + tokens * (100 * config.d_model * config.n_layers + LOGIT_BYTES * config.vocab_size)


def available_bytes() -> int:
    """Memory that could be had now, caches of files included, where the system tells; else all there is."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    return int(found[1]) * 1024 if found is not None else memory_bytes("cpu") or 0
