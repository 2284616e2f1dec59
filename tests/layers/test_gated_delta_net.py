"""Gated DeltaNet's layer: against a per-token oracle, DeltaNet, and the published facts."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay.layers.delta_net import DeltaNet
from assay.layers.gated_delta_net import GatedDeltaNet
from assay.ops.execution import Execution, Form
from layers.delta_oracle import oracle, sequence, with_every_weight_drawn

OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "before": {"error": "before", "n_value_heads": 4},
    "bare": {"conv_width": 0, "output_gate": False, "negative_eigenvalues": True},
}


def make(option: str = "published", form: Form = "chunked") -> DeltaNet:
    layer = with_every_weight_drawn(GatedDeltaNet(16, 2, 6, 8, **OPTIONS[option]))
    layer.execution = Execution(form, 16)
    return layer


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("option", OPTIONS)
def test_equals_the_oracle_forward_and_backward(option: str, form: Form) -> None:
    layer, x = make(option, form), sequence(21, batch=1)
    y, expected = layer(x)[0], oracle(layer, x[0])[None]
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    ours = torch.autograd.grad((y * weights).sum(), list(layer.parameters()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(layer.parameters()))
    for (name, _), a, b in zip(layer.named_parameters(), ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max(), name


def test_where_the_error_is_taken_matters() -> None:
    after, before = make("published"), make("published")
    before.error = "before"
    x = sequence(30)
    assert (after(x)[0] - before(x)[0]).abs().max() > 1e-2 * after(x)[0].abs().max()


@torch.no_grad()
def test_without_decay_it_is_delta_net() -> None:
    gated = make("published")
    gated.get_parameter("A_log").fill_(-100.0)
    plain = DeltaNet(16, 2, 6, 8, output_gate=True).double()
    plain.load_state_dict({name: x for name, x in gated.state_dict().items() if name in plain.state_dict()})
    x = sequence(30)
    torch.testing.assert_close(gated(x)[0], plain(x)[0], rtol=1e-9, atol=1e-9)


def test_published_initialisation() -> None:
    layer = GatedDeltaNet(64, 64, 4, 8)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    rates, dt = layer.A_log.exp(), nn.functional.softplus(layer.dt_bias)
    assert 0 < rates.min() < 1.5
    assert 14.5 < rates.max() <= 16
    assert rates.mean().item() == pytest.approx(8, abs=2)
    assert 1e-3 * 0.999 <= dt.min() < 2e-3
    assert 5e-2 < dt.max() <= 1e-1 * 1.001
    assert abs(dt.log().mean().item() - math.log(1e-2)) < 0.5
    assert layer.decay_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (layer.norm.weight == 1).all()


def test_taps_and_roles() -> None:
    layer, x, seen = make("before"), sequence(9), {}
    tap = layer.get_submodule("log_decay_tap")
    tap.register_forward_hook(lambda _, __, y: seen.update({"log_decay": y}))
    layer(x)
    assert seen["log_decay"].shape == (2, 9, 4)
    assert (seen["log_decay"] < 0).all()
    assert dict(layer.decay_roles) == {"conv_weight": True, "A_log": False, "dt_bias": False}


def test_flops_are_those_of_delta_net_and_the_decay() -> None:
    layer, plain = make("before"), DeltaNet(16, 2, 6, 8, n_value_heads=4, output_gate=True)
    assert layer.flops_per_token(100) == plain.flops_per_token(100) + 2 * 16 * 4 + 4 * 6 * 8
    for tokens in (1, 37):
        with FlopCounterMode(display=False) as counter:
            layer(sequence(tokens, batch=1))
        counted, expected = layer.executed_flops(tokens).counted, counter.get_total_flops()
        assert counted == expected


def test_state_bytes_are_those_of_the_state() -> None:
    layer = make("before").float()
    _, state = layer(sequence(5, torch.float32, batch=1))
    assert sum(part.nbytes for part in state) == layer.state_bytes(5, 4) == 4 * (3 * (2 * 2 * 6 + 4 * 8) + 4 * 6 * 8)
