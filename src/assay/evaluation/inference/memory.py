"""The most bytes that one call holds at once, as the allocator of the device counts them.

CUDA: the allocator's own peak. CPU: every allocation and release that torch's CPU allocator reports to the profiler
while the call runs, summed in their order; the resident memory of the process would count its code, and what was freed
and kept, and tracemalloc does not see tensors. Elsewhere there is no such count.
"""

import gc
from collections.abc import Callable
from typing import Any

import torch

METHODS = {
    "cpu": "the most bytes that torch's CPU allocator had given out at once, by torch's profiler",
    "cuda": "the peak of torch's CUDA allocator (max_memory_allocated) above what was allocated before",
}


def memory_method(device: str) -> str:
    """In words, how the peak is found on the device."""
    return METHODS.get(torch.device(device).type, "not measured on this device")


def peak_of(call: Callable[[], object], device: str) -> int | None:
    """The most bytes allocated at once during `call` beyond what was before; None where the device does not tell."""
    kind = torch.device(device).type
    if kind == "cpu":
        return _cpu_peak(call)
    if kind != "cuda":
        return None
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _cpu_peak(call: Callable[[], object]) -> int:
    """The profiler without its tracer, which takes seconds to start; nothing but allocations is asked of it."""
    switch: Any = torch._C._autograd
    profiler: Any = torch._C._profiler
    no_shapes, memory, no_stack, no_flops, no_modules = False, True, False, False, False
    state, experimental = profiler.ProfilerState.CPU, profiler._ExperimentalConfig()
    switch._enable_profiler_legacy(
        profiler.ProfilerConfig(state, no_shapes, memory, no_stack, no_flops, no_modules, experimental)
    )
    try:
        call()
    finally:
        threads = switch._disable_profiler_legacy()
    held = peak = 0
    for event in (event for thread in threads for event in thread):
        if event.kind() == "memory_alloc":
            held += event.cpu_memory_usage()
            peak = max(peak, held)
    return peak
