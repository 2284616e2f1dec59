"""DeltaNet's layer: against a per-token oracle, its own other forms, and the published facts."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.errors import RequestError
from assay.layers.delta_net import DeltaNet, l2_normalised
from assay.ops.execution import Execution, Form, recorded_forms
from layers.delta_oracle import oracle, sequence, with_every_weight_drawn

OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "gated": {"output_gate": True, "conv_width": 2},
    "bare": {"conv_width": 0, "negative_eigenvalues": True},
    "shared-keys": {"n_value_heads": 4, "output_gate": True},
}


def make(option: str = "published", form: Form = "chunked", dtype: torch.dtype = torch.float64) -> DeltaNet:
    layer = with_every_weight_drawn(DeltaNet(16, 2, 6, 5, **OPTIONS[option]), dtype)
    layer.execution = Execution(form, 16)
    return layer


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("option", OPTIONS)
def test_equals_the_oracle_forward_and_backward(option: str, form: Form) -> None:
    layer, x = make(option, form), sequence(21, batch=1)
    with recorded_forms() as forms:
        y, _ = layer(x)
    assert forms == {"delta_rule": {form}} | ({} if option == "bare" else {"convolution": {form}})
    expected = oracle(layer, x[0])[None]
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    ours = torch.autograd.grad((y * weights).sum(), list(layer.parameters()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(layer.parameters()))
    for (name, _), a, b in zip(layer.named_parameters(), ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max(), name


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cuts", [(1,), (2, 3), (16, 17, 20), tuple(range(1, 21))])
def test_any_split_is_the_whole(option: str, cuts: tuple[int, ...]) -> None:
    layer, x = make(option), sequence(21)
    whole, last = make(option, "loop")(x)
    state, parts = layer.initial_state(2), []
    for first, end in zip((0, *cuts), (*cuts, 21), strict=True):
        y, state = layer(x[:, first:end], state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tuple(state), tuple(last), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("option", ["published", "bare"])
def test_state_bytes_are_those_of_the_state(option: str, dtype: torch.dtype) -> None:
    layer = make(option, dtype=dtype)
    for tokens in (1, 2, 20):
        _, state = layer(sequence(tokens, dtype, batch=1))
        assert state.memory.dtype == torch.promote_types(dtype, torch.float32)
        for each in (state, layer.initial_state(1)):
            assert sum(part.nbytes for part in each) == layer.state_bytes(tokens, dtype.itemsize)


def test_low_precision_keeps_the_recurrence_in_float32() -> None:
    layer, x = make("gated", dtype=torch.float32), sequence(50, torch.float32)
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
    assert state.memory.dtype == torch.float32
    assert (y - exact).abs().max() < 0.05 * exact.abs().max()


def test_unit_length_even_of_nothing() -> None:
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(l2_normalised(x), x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt())
    assert torch.equal(l2_normalised(torch.zeros(2, 7)), torch.zeros(2, 7))
    assert l2_normalised(x.bfloat16()).dtype == torch.float32


def test_beta_doubles_for_negative_eigenvalues() -> None:
    """Only with beta above 1 can a write change the sign of what was stored under a key."""
    betas: dict[str, Tensor] = {}
    for option in ("published", "bare"):
        layer = make(option)
        layer.beta_tap.register_forward_hook(lambda _, __, y, option=option: betas.update({option: y}))
        layer(10 * sequence(30))
    assert 0 < betas["published"].min() < 0.5 < betas["published"].max() < 1
    assert 1 < betas["bare"].max() < 2


def test_taps_carry_the_named_intermediates() -> None:
    layer, x, seen = make("shared-keys"), sequence(9), {}
    for name in ("beta_tap", "gate_tap"):
        layer.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    layer(x)
    assert {name: tuple(y.shape) for name, y in seen.items()} == {"beta_tap": (2, 9, 4), "gate_tap": (2, 9, 20)}


def test_published_initialisation() -> None:
    layer = DeltaNet(64, 4, 16, 16, output_gate=True)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    assert (layer.norm.weight == 1).all()
    for name, parameter in layer.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_flops_by_hand() -> None:
    layer = make("shared-keys")
    matrices = 16 * (2 * 2 * 6 + 4 * 5) + 16 * 4 + 16 * 20 + 20 * 16
    filters = 4 * (2 * 2 * 6 + 4 * 5)
    assert layer.flops_per_token(100) == 2 * matrices + 2 * filters + 4 * 6 * 6 * 5


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("option", OPTIONS)
def test_executed_flops_are_what_the_counter_counts(option: str, form: Form) -> None:
    layer = make(option, form, torch.float32)
    for tokens in (1, 37):
        with FlopCounterMode(display=False) as counter:
            layer(sequence(tokens, torch.float32, batch=1))
        assert layer.executed_flops(tokens).counted == counter.get_total_flops()


def test_roles() -> None:
    layer = make("published")
    assert dict(layer.decay_roles) == {"conv_weight": True}
    assert layer.residual_outputs() == (layer.output_proj.weight,)


def test_impossible_dimensions_are_one_line() -> None:
    with pytest.raises(RequestError, match=r"^n_value_heads: 3 given, a multiple of n_heads \(2\) is needed$"):
        DeltaNet(16, 2, 6, 5, n_value_heads=3)
