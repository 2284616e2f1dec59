"""The execution plan: device, precision, compile, op form and threads, resolved once and obeyed by every run."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from pydantic import Field, field_validator

from assay.config import Config
from assay.errors import RequestError
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution, Form


class ExecutionConfig(Config):
    """What the user asks of the machine; `auto` is resolved from what the machine can do, never from timings."""

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    op_form: Literal["loop", "chunked"] = "chunked"
    chunk_length: int = Field(64, ge=1)
    threads: int | None = Field(None, gt=0)
    """Torch threads; None means one per core that this process may use."""

    @field_validator("device")
    @classmethod
    def _device_known(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", device):
            raise ValueError("should be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'")
        return device


class ExecutionPlan(Config):
    """The machine settings that every run of a study uses, resumed runs too; stored before the first step."""

    device: str
    precision: str
    compile: bool
    op_form: Form
    chunk_length: int
    threads: int

    def apply(self, model: LanguageModel) -> LanguageModel:
        """Move `model` to the device and fix the form of its ops; set torch's threads."""
        torch.set_num_threads(self.threads)
        model.set_execution(Execution(self.op_form, self.chunk_length))
        return model.to(self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of every forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    @property
    def bytes_per_element(self) -> int:
        """Bytes per element of activations and caches in this precision."""
        return 4 if self.precision == "float32" else 2


def resolve_plan(asked: ExecutionConfig, tell: Callable[[str], None]) -> ExecutionPlan:
    """Resolve `auto` from the machine's capabilities.

    Something that was asked for and is not available is a RequestError; a missing C++ compiler is one line to `tell`.
    The automatic precision is bfloat16 on CUDA devices that support it, and float32 on CPUs: few have bfloat16 units.
    """
    device = asked.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_missing_device(device)
    kind = torch.device(device).type
    precision = asked.precision
    if precision == "auto":
        precision = "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    compiles = asked.compile
    if compiles and kind == "cpu" and not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        tell("execution.compile: no C++ compiler found; running without compiling")
        compiles = False
    return ExecutionPlan(
        device=device,
        precision=precision,
        compile=compiles,
        op_form=asked.op_form,
        chunk_length=asked.chunk_length,
        threads=asked.threads or available_cores(),
    )


def refuse_missing_device(device: str) -> None:
    """Raise a RequestError where the machine has no such device, which a stored plan may name."""
    kind = torch.device(device).type
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"--device {device}: this torch sees {torch.cuda.device_count()} CUDA devices; --device cpu works"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise RequestError("--device mps: not available on this machine; --device cpu works")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes(device: str) -> int | None:
    """The memory of the device in bytes, for the CPU that of the machine; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
