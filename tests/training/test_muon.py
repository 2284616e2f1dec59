"""Muon: which parameters it takes, what its step does, and that a run with it resumes bit for bit."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from assay.errors import RequestError
from assay.layers.mixer import Layer
from assay.model.architecture import ARCHITECTURES
from assay.model.optimizer_roles import optimizer_roles
from assay.ops.orthogonal import in_cpp_here, prepare_orthogonal
from assay.training.muon import MOMENTUM, ByShape, MuonWithAdamW
from assay.training.optim import build_optimizer, optimizer_groups, set_rate
from training.test_loop import training_run
from training.test_optim import protocol, tiny

RATE = 0.01


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_parameter_is_in_one_group_and_matrices_are_muons(name: str) -> None:
    model = tiny(name)
    optimizer = build_optimizer(model, protocol(optimizer="muon", weight_decay=0.3))
    assert isinstance(optimizer, MuonWithAdamW)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()}
    groups = optimizer_groups(model, protocol(optimizer="muon", weight_decay=0.3))
    assert [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups] == [
        group.parameters for group in groups
    ]
    assert [group.optimizer for group in groups] == ["muon"] + ["adamw"] * (len(groups) - 1)
    of_muon = {id(p) for p in optimizer.param_groups[0]["params"]}
    linear = {id(module.weight) for module in model.modules() if type(module) is nn.Linear}
    declared = {
        id(getattr(module, own)) for module in model.modules() if isinstance(module, Layer) for own in module.matrices
    }
    assert of_muon == linear | declared
    assert {group.optimizer for group in optimizer_groups(model, protocol())} == {"adamw"}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("steps", [1, 5])
def test_steps_are_those_of_torchs_own(steps: int, native: bool) -> None:
    """Wide, tall and square matrices, two of a shape, one without a gradient."""
    if native and (not in_cpp_here() or prepare_orthogonal()):
        pytest.skip("needs a processor with AVX512-BF16 and a compiler")
    shapes = [(24, 40), (24, 40), (40, 24), (16, 16), (3, 50)]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    sides = []
    for kind in (torch.optim.Muon, ByShape):
        weights = [nn.Parameter(weight.clone()) for weight in start]
        options = {"lr": RATE, "weight_decay": 0.3, "momentum": MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
        optimizer = kind(weights, **options)
        if isinstance(optimizer, ByShape):
            optimizer.native = native
        slopes = torch.Generator().manual_seed(1)
        for _ in range(steps):
            for weight in weights[:-1]:
                weight.grad = torch.randn(weight.shape, generator=slopes)
            optimizer.step()
        sides.append((weights, [optimizer.state[weight] for weight in weights[:-1]]))
    (theirs, their_state), (ours, our_state) = sides
    assert torch.equal(theirs[-1], ours[-1])
    for one, other, before in zip(theirs, ours, start, strict=True):
        moved = (one - before).norm().detach()
        assert (one - other).norm().detach() <= (0.02 if native else 0.01) * moved, "up to bfloat16"
    for one, other in zip(their_state, our_state, strict=True):
        assert one.keys() == other.keys()
        torch.testing.assert_close(one["momentum_buffer"], other["momentum_buffer"])


def test_tables_heads_filters_and_low_rank_factors_are_no_matrices() -> None:
    matrices = {
        name: {key for key, _, role in optimizer_roles(tiny(name, heads="untied")) if role.matrix}
        for name in ("gpt1", "mamba2", "rwkv6", "rwkv7", "twin")
    }
    assert {key.partition(".")[2].partition(".")[2] for key in matrices["gpt1"]} == {
        "mixer.qkv.weight",
        "mixer.output.weight",
        "channel_mixer.up.weight",
        "channel_mixer.down.weight",
    }
    assert not any("conv" in key or "embedding" in key or "head" in key for keys in matrices.values() for key in keys)
    assert not any("mu" in key or key.endswith(("down", "up")) for key in matrices["rwkv6"] | matrices["rwkv7"])


def test_a_step_is_orthogonal_and_of_the_size_of_adamw() -> None:
    """After one step: decay, then -lr 0.2 sqrt(max(m, n)) U S V', where gradient = U D V' and S is near one."""
    layer = nn.Linear(24, 40, bias=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
    before, gradient = layer.weight.detach().clone(), torch.randn(40, 24, generator=generator)
    optimizer = build_optimizer(nn.Sequential(layer, nn.LayerNorm(40)), protocol(optimizer="muon", weight_decay=0.3))
    layer.weight.grad = gradient.clone()
    set_rate(optimizer, RATE)
    optimizer.step()
    update = (before * (1 - RATE * 0.3) - layer.weight.detach()) / (RATE * 0.2 * math.sqrt(40))
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    turned = left.T @ update @ right.T
    assert turned.diagonal().min() > 0.6
    assert turned.diagonal().max() < 1.3
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05, "up to bfloat16"
    rms = (RATE * 0.2 * math.sqrt(40)) * update.square().mean().sqrt() / RATE
    assert 0.1 < rms < 0.3, "AdamW's is about 0.2"
    (state,) = (optimizer.state[layer.weight],)
    assert torch.allclose(state["momentum_buffer"], (1 - MOMENTUM) * gradient)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_resumes_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    def stop(event: Any) -> None:
        if event.step == 7:
            raise KeyboardInterrupt

    ends = []
    for name, stops in (("whole", []), ("twice", [stop])):
        (tmp_path / name).mkdir()
        run, _ = training_run(tmp_path / name, optimizer=optimizer, tokens=12 * 32, checkpoint_interval=5)
        run.observers = [*run.observers, *stops]
        if stops:
            with pytest.raises(KeyboardInterrupt):
                run.go()
            run, _ = training_run(tmp_path / name, optimizer=optimizer, tokens=12 * 32, checkpoint_interval=5)
        assert run.go().interruptions == len(stops)
        folder = tmp_path / name / "checkpoint"
        ends.append([(folder / f"{part}.safetensors").read_bytes() for part in ("model", "optimizer")])
    assert ends[0] == ends[1]


def test_a_model_without_matrices_is_left_to_adamw() -> None:
    optimizer = build_optimizer(nn.Embedding(3, 2), protocol(optimizer="muon"))
    assert isinstance(optimizer, torch.optim.AdamW)


class Declaring(Layer):
    """A layer of its own matrix, which says that it is one."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"product": True, "filters": True}
    matrices: ClassVar[frozenset[str]] = frozenset({"product"})

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Parameter(torch.zeros(2, 2))
        self.filters = nn.Parameter(torch.zeros(2, 4))

    def reset_parameters(self, generator: torch.Generator) -> None:
        raise NotImplementedError


class Deep(Declaring):
    """A matrix of three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Parameter(torch.zeros(2, 2, 2))


def test_a_layer_says_which_of_its_own_are_matrices() -> None:
    assert [name for name, _, role in optimizer_roles(Declaring()) if role.matrix] == ["product"]
    with pytest.raises(RequestError, match=r"Deep\.matrices: product: has 3 axes, and a matrix has two"):
        list(optimizer_roles(Deep()))
    wrong = type("Wrong", (Declaring,), {"matrices": frozenset({"produkt"})})
    with pytest.raises(RequestError, match=r"produkt: stands in no decay_roles; did you mean 'product'"):
        list(optimizer_roles(wrong()))


def test_only_muon_enters_a_digest() -> None:
    assert protocol().digest() == protocol(optimizer="adamw").digest() != protocol(optimizer="muon").digest()
