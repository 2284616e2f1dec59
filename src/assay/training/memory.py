"""Peak memory of a stretch of work, by the high-water mark of the process or of the device."""

import contextlib
import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Starts a measurement on construction; `bytes()` reads it, None where the high-water mark cannot be reset."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.measurable = True
        else:
            self.measurable = self.device.type == "cpu" and _reset_high_water_mark()

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
