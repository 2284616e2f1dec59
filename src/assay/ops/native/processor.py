"""What the processor is and can multiply, for the C++ forms of ops."""

import platform

import torch

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")


def processor_name() -> str:
    """The model name of the processor, if the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def types_here() -> list[torch.dtype]:
    """The types that the functions in C++ can compute in on this machine; none where they cannot run."""
    if platform.system() != "Linux" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return []
    units = torch.cpu.get_capabilities()
    return [torch.float32, torch.bfloat16] if any(units.get(name) for name in BFLOAT16_UNITS) else [torch.float32]


def slow_products() -> bool:
    """Whether torch's products of float32 leave much of the processor unused, as MKL's do on all but Intel's."""
    return torch.backends.mkl.is_available() and "intel" not in processor_name().lower()
