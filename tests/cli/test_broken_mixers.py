"""Mixers with a mistake, from a file and from an installed package: one line with file and line in every verb."""

import importlib
import sys
from pathlib import Path

import pytest

from assay.model.architecture import ARCHITECTURES
from assay.plugins import blame
from cli.command import Assay

RIGHT = """
import torch
from torch import nn
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, register

class Mean(SequenceLayer):
    decay_roles = {"rate": False}

    def __init__(self, d_model):
        super().__init__()
        self.rate = nn.Parameter(torch.zeros(d_model))

    def forward(self, x, state=None, shared=None):
        (h,) = self.initial_state(len(x)) if state is None else state
        outputs = []
        for t in range(x.shape[1]):
            h = torch.lerp(x[:, t], h, self.rate.sigmoid())
            outputs.append(h)
        return torch.stack(outputs, 1), (h,)

    def initial_state(self, batch, capacity=None):
        return (self.rate.new_zeros(batch, len(self.rate)),)

    def reset_parameters(self, generator):
        nn.init.uniform_(self.rate, 0.0, 3.0, generator=generator)

register(Architecture(name="NAME", summary="", citation="", mixer=lambda config, _: Mean(config.d_model)))
"""
RETURN, BEGIN = "return torch.stack(outputs, 1), (h,)", "return (self.rate.new_zeros(batch, len(self.rate)),)"

MISTAKES = {
    "type": (
        RETURN,
        "return torch.stack(outputs, 1).bfloat16(), (h,)",
        "def forward",
        "forward returned torch.bfloat16",
    ),
    "batch": ("initial_state(self, batch, capacity=None)", "initial_state(self)", "def initial_state", "TypeError"),
    "base": (
        "class Mean(SequenceLayer)",
        "class Mean(nn.Module)",
        "class Mean",
        "mixer makes Mean, which is no SequenceLayer",
    ),
    "signature": (
        "forward(self, x, state=None, shared=None)",
        "forward(self, x)",
        "def forward",
        "TypeError: Mean.forward()",
    ),
    "callable": (
        "mixer=lambda config, _: Mean(config.d_model)",
        "mixer=Mean",
        "class Mean",
        "TypeError: Mean.__init__()",
    ),
    "exit": (
        "outputs = []",
        "raise SystemExit(0)\n        outputs = []",
        "raise SystemExit",
        "SystemExit: 0",
    ),
    "step": (
        "outputs = []",
        "assert x.shape[1] > 1\n        outputs = []",
        "assert x",
        "AssertionError: assert x.shape[1] > 1",
    ),
    "rows": (
        BEGIN,
        "return (self.rate.new_zeros(1, len(self.rate)),)",
        "def initial_state",
        "is [1, 32], forward returns [2, 32]",
    ),
    "place": ("outputs = []", "outputs = []; x.mul_(2)", "def forward", "forward changes its input x in place"),
    "role": ('"rate": False', "", "class Mean", "Mean declares no weight-decay role"),
}


@pytest.fixture(autouse=True)
def _registry_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHITECTURES.names()
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(ARCHITECTURES._items))


def written(path: Path, name: str, right: str = "", wrong: str = "") -> Path:
    assert right in RIGHT
    path.write_text(RIGHT.replace(right, wrong).replace("NAME", name).lstrip("\n") if right else RIGHT)
    return path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_file_and_line_before_anything_is_trained(assay: Assay, mistake: str) -> None:
    right, wrong, line, says = MISTAKES[mistake]
    path = written(assay.cwd / f"broken_{mistake}.py", mistake, right, wrong)
    source = path.read_text().splitlines()
    for arguments in (["train", mistake, *assay.small], ["describe", mistake]):
        said = assay(*arguments, "--plugin", path.name)
        assert said.status == 2
        assert len(said.lines) == 1
        assert says in said.err
        ARCHITECTURES._items.pop(mistake, None)
        del sys.modules[next(name for name in sys.modules if name.startswith(f"assay_plugin_broken_{mistake}"))]
    where = said.err.partition(": line ")
    assert where[0] == f"assay: --plugin {path.name}"
    assert source[int(where[2].partition(":")[0]) - 1].strip().startswith(line)


@pytest.mark.parametrize("mistake", ["type", "batch", "base", "signature", "callable", "exit", "rows", "place"])
def test_check_refuses_it_under_the_name_it_was_given(assay: Assay, mistake: str) -> None:
    right, wrong, _, says = MISTAKES[mistake]
    path = written(assay.cwd / f"checked_{mistake}.py", f"checked-{mistake}", right, wrong)
    said = assay("check", path.name)
    assert said.status == 2
    assert said.err.startswith(f"assay: {path.name}: line ")
    assert says in said.err
    assert len(said.lines) == 1


def test_a_file_that_is_not_there_is_the_argument(assay: Assay) -> None:
    for verb in ("check", "audit"):
        assert assay(verb, "nosuch.py").err == "assay: nosuch.py: no such file\n"


@pytest.mark.parametrize("verb", ["describe", "train", "audit"])
def test_an_installed_package_is_held_to_it_too(assay: Assay, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    name = f"brought_for_{verb}"
    path = written(assay.cwd / f"{name}.py", name, *MISTAKES["place"][:2])
    monkeypatch.syspath_prepend(str(assay.cwd))
    monkeypatch.setitem(blame._packages, str(assay.cwd), "package of-somebody")
    importlib.invalidate_caches()
    importlib.import_module(name)
    said = assay(verb, name, *(assay.small if verb == "train" else []))
    assert said.status == 2
    assert said.err.startswith(f"assay: package of-somebody: {path}: line ")
    assert "forward changes its input x in place" in said.err


def test_what_raises_only_in_decoding_has_file_and_line_in_an_audit(assay: Assay) -> None:
    path = written(assay.cwd / "whole.py", "whole", *MISTAKES["step"][:2])
    said = assay("audit", path.name)
    assert said.status == 2
    assert said.lines[-1] == "assay: whole.py: line 15: AssertionError: assert x.shape[1] > 1"
