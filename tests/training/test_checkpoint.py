"""A checkpoint is whole or not there, holds no times, and gives back what was saved."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.training import checkpoint
from assay.training.checkpoint import TrainingProgress, load, recover, save
from assay.training.config import TrainingConfig
from assay.training.optim import build_optimizer

HERE = {"machine": "this"}
FILES = {"model.safetensors", "optimizer.safetensors", "progress.json"}


def trained(seed: int = 0, steps: int = 2, **dimensions: object) -> tuple[LanguageModel, torch.optim.Optimizer]:
    architecture = ARCHITECTURES.get("gpt1")
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, **dimensions}), seed)
    optimizer = build_optimizer(model, TrainingConfig())
    for _ in range(steps):
        model(torch.arange(8)[None]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def progress(step: int) -> TrainingProgress:
    return TrainingProgress(step=step, tokens=8 * step, chain="0" * 64, environment=HERE)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_two_saves_of_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    model, optimizer = trained()
    save(tmp_path / "a", model, optimizer, progress(2))
    for file in (tmp_path / "a").iterdir():
        os.utime(file, (0, 0))
    save(tmp_path / "b", *trained(), progress(2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a").keys() == FILES
    save(tmp_path / "c", *trained(seed=1), progress(2))
    assert contents(tmp_path / "a")["model.safetensors"] != contents(tmp_path / "c")["model.safetensors"]


def test_metadata_holds_no_times(tmp_path: Path) -> None:
    save(tmp_path / "a", *trained(), progress(2))
    for name in ("model", "optimizer"):
        with safe_open(tmp_path / "a" / f"{name}.safetensors", framework="pt") as file:
            assert not file.metadata()
    assert not [key for key in json.loads((tmp_path / "a" / "progress.json").read_text()) if "time" in key]


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_loaded_is_what_was_saved(tied: bool, tmp_path: Path) -> None:
    model, optimizer = trained(heads="tied" if tied else "untied")
    save(tmp_path / "a", model, optimizer, progress(7))
    other, fresh = trained(seed=5, steps=0, heads="tied" if tied else "untied")
    assert load(tmp_path / "a", other, fresh) == progress(7)
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    want, got = optimizer.state_dict(), fresh.state_dict()
    assert got["param_groups"] == want["param_groups"]
    assert got["state"].keys() == want["state"].keys()
    for index, slots in want["state"].items():
        for name, value in slots.items():
            assert torch.equal(got["state"][index][name], value)


def lay(root: Path, states: dict[str, int]) -> Path:
    """Folders as a death leaves them; each is known by its step."""
    for suffix, step in states.items():
        folder = root / f"checkpoint{suffix}"
        folder.mkdir()
        progress(step).write(folder / "progress.json")
    return root / "checkpoint"


@pytest.mark.parametrize(
    ("states", "survivor"),
    [
        pytest.param({}, None, id="before the first"),
        pytest.param({".new": 1}, None, id="while writing the first"),
        pytest.param({"": 1}, 1, id="at rest"),
        pytest.param({"": 1, ".new": 2}, 1, id="while writing the second, which may be half there"),
        pytest.param({".old": 1, ".new": 2}, 2, id="between the renames: the new one is whole"),
        pytest.param({".old": 1}, 1, id="only the old one is left"),
        pytest.param({"": 2, ".old": 1}, 2, id="before the old one is removed"),
        pytest.param({"": 2, ".old": 1, ".new": 3}, 2, id="an old one that a death left, and a later writing"),
    ],
)
def test_every_state_a_death_can_leave(states: dict[str, int], survivor: int | None, tmp_path: Path) -> None:
    folder = lay(tmp_path, states)
    assert recover(folder) == (survivor is not None)
    if survivor is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
        assert TrainingProgress.read(folder / "progress.json").step == survivor
    assert recover(folder) == (survivor is not None), "twice is once"


def test_a_checkpoint_replaces_the_one_before(tmp_path: Path) -> None:
    model, optimizer = trained()
    for step in (1, 2, 3):
        save(tmp_path / "checkpoint", model, optimizer, progress(step))
        assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
        assert TrainingProgress.read(tmp_path / "checkpoint" / "progress.json").step == step


@pytest.mark.parametrize("fails_at", sorted(FILES))
def test_a_full_disk_leaves_the_old_checkpoint_alone(
    fails_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    save(folder, *trained(), progress(1))
    before = contents(folder)

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if path.name == fails_at:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, path)

    def unwritten(_: TrainingProgress, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "save_file", full)
    if fails_at == "progress.json":
        monkeypatch.setattr(TrainingProgress, "write", unwritten)
    with pytest.raises(OSError, match=fails_at) as caught:
        save(folder, *trained(seed=1), progress(2))
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
    assert contents(folder) == before


def test_another_failure_of_safetensors_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: dict[str, Tensor], __: Path) -> None:
        raise SafetensorError("a tensor is not contiguous")

    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(SafetensorError, match="contiguous"):
        save(tmp_path / "checkpoint", *trained(), progress(1))
    assert list(tmp_path.iterdir()) == []


def test_progress_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = lay(tmp_path, {"": 1})
    values = json.loads((folder / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps({**values, "schema_version": 99}))
    with pytest.raises(RequestError, match="schema version 99"):
        TrainingProgress.read(folder / "progress.json")
    shutil.rmtree(folder)
    assert not recover(folder)
