"""The execution plan: device, precision, compile, forms of ops and threads, resolved once, obeyed by every run."""

import contextlib
import ctypes
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from assay.config import Config
from assay.errors import RequestError
from assay.layers.mixer import Layer
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution, Form
from assay.ops.forms import OPS, Op
from assay.ops.native.processor import types_here

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for these options of mallopt (malloc.h)."""

CPU_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names in torch.cpu.get_capabilities() of units that multiply in bfloat16 and add in float32; the last is ARM's."""


class ExecutionConfig(Config):
    """What the user asks of the machine; `auto` is resolved from what the machine can do, never from timings."""

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    """`auto` compiles a study whose runs are long enough to repay it (assay.study.machine), and nothing else."""
    op_form: Form = "chunked"
    """Of every op that has it and can run it here; the others take the best form that can."""
    chunk_length: int = Field(64, ge=1)
    native: bool | Literal["auto"] = "auto"
    """Ops of training in C++ on CPUs: `auto` where the processor and a compiler are there."""
    threads: int | None = Field(None, gt=0, le=4096)
    """Torch threads; None means one per core that this process may use."""

    @field_validator("device")
    @classmethod
    def _device_known(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?|mps", device):
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
    native: bool = False
    """Whether ops of training run in C++ where they have such a form (assay.ops.native)."""
    forms: dict[str, Form] = {}
    """The form of each op; one that is not named, as all are in a plan of before this key, takes `op_form`."""

    @property
    def execution(self) -> Execution:
        """The forms, as layers hand them to their ops."""
        others = tuple(sorted((op, form) for op, form in self.forms.items() if form != self.op_form))
        return Execution(self.op_form, self.chunk_length, others)

    def forms_of(self, model: nn.Module) -> dict[str, list[str]]:
        """The form of each op that `model` uses, by the op's name: what runs, compiled or not."""
        return {op.name: [op.planned(self.execution)] for op in ops_of(model)}

    def apply(self, model: LanguageModel) -> LanguageModel:
        """Move `model` to the device and fix the form of its ops; set torch's threads, and keep freed memory."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        model.set_execution(self.execution)
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

    Something that was asked for and is not available is a RequestError; a missing compiler is one line to `tell`. The
    automatic precision is bfloat16 on devices that multiply in it, float32 elsewhere. An automatic `compile` is off
    here: only a study knows how long its runs are.
    """
    device = asked.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_missing_device(device)
    kind = torch.device(device).type
    precision = fast_precision(device) if asked.precision == "auto" else asked.precision
    compiles = asked.compile is True
    if compiles and (missing := missing_compiler(device)):
        tell(f"execution.compile: {missing}; running without compiling")
        compiles = False
    missing_for_native = missing_native(device)
    if asked.native is True and missing_for_native:
        tell(f"execution.native: {missing_for_native}; ops run in Python")
    return ExecutionPlan(
        device=device,
        precision=precision,
        compile=compiles,
        native=asked.native is not False and missing_for_native is None,
        op_form=asked.op_form,
        chunk_length=asked.chunk_length,
        threads=asked.threads or available_cores(),
        forms=_resolve_forms(asked.op_form, kind, precision, tell),
    )


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the tensors to come, where it is glibc; elsewhere nothing happens.

    By default it gives every large tensor back to the system at once, and each step then takes thousands of page
    faults, which cost most on virtual machines. Tensors of more than 64 MB are given back as before.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 64 << 20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def fast_precision(device: str) -> str:
    """bfloat16 where the device has units for products in it, on CPUs AMX, AVX512-BF16 or ARM's; else float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        units = torch.cuda.is_bf16_supported()
    else:
        found = torch.cpu.get_capabilities() if kind == "cpu" else {}
        units = any(found.get(unit) for unit in CPU_BFLOAT16_UNITS)
    return "bfloat16" if units else "float32"


def missing_compiler(device: str) -> str | None:
    """In words, what torch.compile needs on the device and is not there; None where nothing is missing."""
    kind = torch.device(device).type
    if kind == "cpu" and not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        return "no C++ compiler found"
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None


def missing_native(device: str) -> str | None:
    """In words, what the C++ forms of ops need and is not there; None where nothing is missing."""
    if torch.device(device).type != "cpu" or not types_here():
        return "the ops in C++ need Linux and a processor with AVX-512"
    return missing_compiler(device)


def _resolve_forms(wished: Form, device: str, precision: str, tell: Callable[[str], None]) -> dict[str, Form]:
    """The form of every op; where some cannot take the wished one, a line that says which, why, and what they take."""
    chosen = {op.name: op.choose(wished, device, precision) for op in OPS}
    others = [(form, why, name) for name, (form, why) in chosen.items() if why is not None]
    for (form, why), ops in groupby(sorted(others), key=lambda other: other[:2]):
        names = ", ".join(name for _, _, name in ops)
        tell(f"execution.op_form: {wished} cannot run here for {names} ({why}); running {form}")
    return {name: form for name, (form, _) in chosen.items()}


def ops_of(model: nn.Module) -> list[Op]:
    """The ops that the layers of `model` declare, sorted by name."""
    found = {op.name: op for layer in model.modules() if isinstance(layer, Layer) for op in layer.ops}
    return [found[name] for name in sorted(found)]


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
