"""Checkpoints, written atomically, from which a run resumes bit for bit.

A checkpoint is a folder of three files: model.safetensors, optimizer.safetensors and progress.json. The new folder is
complete before the old one is moved aside, so that a process killed at any moment leaves one of the two.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.model.lm import LanguageModel
from assay.records import Versioned


class TrainingProgress(Versioned):
    """How far a run has come, and what it needs, besides the tensors, to resume bit for bit."""

    step: int
    """Steps done."""
    tokens: int
    chain: str
    """Hash chain over the batches consumed."""
    first_nats: float | None = None
    """The first loss, against which divergence is judged."""
    recent_nats: list[float] = []
    """The last losses, which are compared with it."""
    best_nats: float | None = None
    """The lowest validation so far."""
    best_step: int | None = None
    """The steps done before it."""
    interruptions: int = 0
    chain_broken: str | None = None
    environment: dict[str, str]
    branched_at: int | None = None
    """The steps that were done by a run to a larger budget, from which this one branched."""
    peak_memory_bytes: int | None = None
    forms: dict[str, list[str]] = {}
    status: str = "running"


def save(folder: Path, model: LanguageModel, optimizer: torch.optim.Optimizer, progress: TrainingProgress) -> None:
    """Replace the checkpoint in `folder` atomically."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        _write(model.state_dict(), new / "model.safetensors")
        _write(_optimizer_tensors(optimizer), new / "optimizer.safetensors")
        progress.write(new / "progress.json")
        for file in new.iterdir():
            _sync(file)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> bool:
    """Finish what a process killed between two renames left undone; return whether there is a checkpoint."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        # The old folder is moved aside only once the new one is complete.
        (new if new.exists() else old).rename(folder)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return folder.exists()


def load(folder: Path, model: LanguageModel, optimizer: torch.optim.Optimizer) -> TrainingProgress:
    """Fill `model` and `optimizer` from the checkpoint and return how far it had come."""
    model.load_state_dict(load_file(folder / "model.safetensors"))
    _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
    return TrainingProgress.read(folder / "progress.json")


def keep(folder: Path, model: LanguageModel, step: int, kind: Literal["kept", "best"] = "kept") -> None:
    """Write the weights after `step` steps to KIND/step-STEP.safetensors in the run's `folder`."""
    path = _kept(folder, step, kind)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".new")
    try:
        _write(model.state_dict(), part)
        _sync(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load_best(folder: Path, model: LanguageModel, step: int) -> None:
    """Fill `model` with the best weights, those after `step` steps."""
    model.load_state_dict(load_file(_kept(folder, step, "best")))


def drop_other_best(folder: Path, step: int | None) -> None:
    """Remove best weights other than those after `step` steps: only once the checkpoint names these is it sure."""
    for path in folder.glob("best/*"):
        if step is None or path != _kept(folder, step, "best"):
            path.unlink()


def branch_folder(folder: Path, step: int) -> Path:
    """Where the run in `folder` keeps the checkpoint after `step` steps from which another branches."""
    return folder / "branches" / f"step-{step}"


def _kept(folder: Path, step: int, kind: str) -> Path:
    return folder / kind / f"step-{step}.safetensors"


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """`save_file`, with its own exception for a failed write (a full disk, say) turned into an OSError."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value.contiguous() for index, slots in state.items() for name, value in slots.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
