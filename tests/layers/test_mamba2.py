"""Mamba-2's layer: against a per-token oracle, transformers' mixer, its own other forms, and the published facts."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.errors import RequestError
from assay.layers.mamba2 import Mamba2
from assay.ops.execution import Execution, Form, recorded_forms


def redrawn(n_groups: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> Mamba2:
    """A layer of 4 heads with every parameter redrawn, so that none hides another."""
    layer = Mamba2(d_model=16, d_state=6, head_dim=8, n_groups=n_groups, n_layers=3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise / math.sqrt(parameter.shape[1]))
            elif name in ("D", "norm.weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
        layer.A_log.copy_(torch.linspace(-6.0, 4.0, 4))
        layer.dt_bias.copy_(torch.linspace(-3.0, 2.0, 4).flip(0))
    return layer.to(dtype)


def sequence(tokens: int, dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
    return torch.randn(batch, tokens, 16, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64).to(
        dtype
    )


def with_form(layer: Mamba2, form: Form, chunk_length: int = 16) -> Mamba2:
    layer.execution = Execution(form, chunk_length)
    return layer


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def oracle(layer: Mamba2, u: Tensor) -> Tensor:
    """One sequence [T, D], token by token and head by head, from the equations of Dao and Gu 2024, section 7."""
    p = dict(layer.named_parameters())
    width, state_width, groups, head_width = 32, 6, layer.n_groups, 8
    channels = width + 2 * groups * state_width
    history = [torch.zeros(channels, dtype=u.dtype) for _ in range(3)]
    states = [torch.zeros(head_width, state_width, dtype=u.dtype) for _ in range(4)]
    outputs = []
    for token in u:
        projected = p["in_proj.weight"] @ token
        z, xbc, raw_dt = projected[:width], projected[width : width + channels], projected[width + channels :]
        history = [*history, xbc][-4:]
        xbc = silu(p["conv_bias"] + sum(p["conv_weight"][:, w] * history[w] for w in range(4)))
        y = []
        for h in range(4):
            group = h * groups // 4
            x = xbc[h * head_width : (h + 1) * head_width]
            b = xbc[width + group * state_width :][:state_width]
            c = xbc[width + (groups + group) * state_width :][:state_width]
            dt = torch.log1p(torch.exp(raw_dt[h] + p["dt_bias"][h]))
            states[h] = torch.exp(-dt * torch.exp(p["A_log"][h])) * states[h] + dt * torch.outer(x, b)
            y.append(states[h] @ c + p["D"][h] * x)
        gated = (torch.cat(y) * silu(z)).view(groups, -1)
        normed = gated / torch.sqrt((gated**2).mean(-1, keepdim=True) + 1e-5)
        outputs.append(p["out_proj.weight"] @ (p["norm.weight"] * normed.flatten()))
    return torch.stack(outputs)


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_equals_the_oracle_forward_and_backward(n_groups: int, form: Form) -> None:
    layer, u = with_form(redrawn(n_groups), form), sequence(20)
    with recorded_forms() as forms:
        y, _ = layer(u)
    assert forms == {"ssd": {form}, "convolution": {form}}
    expected = torch.stack([oracle(layer, one) for one in u])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    ours = torch.autograd.grad((y * weights).sum(), list(layer.parameters()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(layer.parameters()))
    for (name, _), a, b in zip(layer.named_parameters(), ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max(), name


@pytest.mark.parametrize("cuts", [(1,), (2, 3), (16, 17, 20), tuple(range(1, 21))])
def test_any_split_is_the_whole(cuts: tuple[int, ...]) -> None:
    layer, x = redrawn(), sequence(21)
    whole, last = with_form(layer, "loop")(x)
    with_form(layer, "chunked")
    state, parts = layer.initial_state(2), []
    for first, end in zip((0, *cuts), (*cuts, 21), strict=True):
        y, state = layer(x[:, first:end], state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tuple(state), tuple(last), rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def transformers_mixer() -> Callable[[], nn.Module]:
    """Builds transformers' mixer (its path without kernels); a fixture, as the import alone takes seconds."""
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    config = pytest.importorskip("transformers").Mamba2Config(
        num_heads=4, head_dim=8, hidden_size=16, state_size=6, expand=2, n_groups=1, num_hidden_layers=1, chunk_size=16
    )
    return lambda: modeling.Mamba2Mixer(config, 0)


@pytest.mark.parametrize("tokens", [1, 3, 67])
def test_parity_with_transformers(transformers_mixer: Callable[[], nn.Module], tokens: int) -> None:
    theirs = transformers_mixer()
    ours, x = redrawn(1, torch.float32), sequence(tokens, torch.float32)
    names = {"conv_weight": "conv1d.weight", "conv_bias": "conv1d.bias"}
    weights = {names.get(name, name): parameter for name, parameter in ours.state_dict().items()}
    weights["conv1d.weight"] = weights["conv1d.weight"][:, None]
    theirs.load_state_dict(weights)
    with torch.no_grad():
        expected = theirs(x)
        largest = expected.abs().max()
        assert (ours(x)[0] - expected).abs().max() <= 1e-4 * largest
        for name, parameter in ours.named_parameters():
            if name == "A_log" and tokens == 1:
                continue  # nothing has been written before the first token, so nothing decays
            before = parameter.clone()
            parameter.copy_(parameter.flip(0) + 0.3)
            assert (ours(x)[0] - expected).abs().max() > 1e-2 * largest, name
            parameter.copy_(before)


@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_causality_by_gradient(form: Form) -> None:
    layer = with_form(redrawn(), form)
    x = sequence(35, batch=1).requires_grad_()
    y, _ = layer(x)
    for t in (0, 15, 16, 33):
        (gradient,) = torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)
        reached = gradient[0].abs().sum(-1)
        assert (reached[: t + 1] > 0).all()
        assert (reached[t + 1 :] == 0).all()


def test_published_initialisation() -> None:
    layer = Mamba2(d_model=64, d_state=16, head_dim=2, n_layers=4)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    rates, dt = layer.A_log.exp(), nn.functional.softplus(layer.dt_bias)
    assert 1 <= rates.min() < 2, "decay rates are uniform in 1...16"
    assert 15 < rates.max() <= 16, "decay rates are uniform in 1...16"
    assert 1e-3 * 0.999 <= dt.min() < 2e-3, "dt is log-uniform in 1e-3...1e-1"
    assert 5e-2 < dt.max() <= 1e-1 * 1.001, "dt is log-uniform in 1e-3...1e-1"
    assert abs(dt.log().mean().item() - math.log(1e-2)) < 0.5, "dt is log-uniform in 1e-3...1e-1"
    assert (layer.D == 1).all()
    assert (layer.norm.weight == 1).all()
    bounds = {
        layer.in_proj.weight: 1 / math.sqrt(64),
        layer.conv_weight: 1 / math.sqrt(4),
        layer.conv_bias: 1 / math.sqrt(4),
        layer.out_proj.weight: 1 / math.sqrt(128) / math.sqrt(4),
    }
    for parameter, bound in bounds.items():
        assert 0.95 * bound < parameter.abs().max() <= bound
        assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_the_generator_decides_every_parameter() -> None:
    layers = [Mamba2(d_model=16, d_state=6, head_dim=8, n_layers=3) for _ in range(3)]
    for layer, seed in zip(layers, (5, 5, 6), strict=True):
        torch.manual_seed(seed + len(layers))
        layer.reset_parameters(torch.Generator().manual_seed(seed))
    for (name, a), b, c in zip(
        layers[0].named_parameters(), *(other.parameters() for other in layers[1:]), strict=True
    ):
        assert torch.equal(a, b), name
        assert name in ("D", "norm.weight") or not torch.equal(a, c), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 2, 50])
def test_state_bytes_are_those_of_the_state(tokens: int, dtype: torch.dtype) -> None:
    layer = redrawn(dtype=dtype)
    _, state = layer(sequence(tokens, dtype, batch=1))
    assert state.ssm.dtype == torch.promote_types(dtype, torch.float32)
    for each in (state, layer.initial_state(1)):
        assert sum(part.nbytes for part in each) == layer.state_bytes(tokens, dtype.itemsize)
        assert [part.untyped_storage().nbytes() for part in state] == [part.nbytes for part in state]


def test_low_precision_keeps_the_recurrence_in_float32() -> None:
    layer, x = redrawn(dtype=torch.float32), sequence(50, torch.float32)
    exact, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
    assert state.ssm.dtype == torch.float32
    assert (y - exact).abs().max() < 0.05 * exact.abs().max()


def test_flops_by_hand() -> None:
    layer = Mamba2(d_model=16, d_state=6, head_dim=8, n_groups=2, n_layers=3)
    projections = 2 * 16 * (32 + 32 + 2 * 2 * 6 + 4) + 2 * 32 * 16
    assert layer.flops_per_token(100) == projections + 2 * 4 * (32 + 24) + 4 * 5 * 8 * 6


def test_every_parameter_has_its_decay_role() -> None:
    layer = redrawn()
    assert set(layer.decay_roles) == {name for name, _ in layer.named_parameters(recurse=False)}
    assert [name for name, decays in layer.decay_roles.items() if decays] == ["conv_weight"]
    assert layer.residual_outputs() == (layer.out_proj.weight,)


def test_taps_carry_the_named_intermediates() -> None:
    layer, x, seen = redrawn(), sequence(9), {}
    for name in ("gate", "dt", "log_decay"):
        tap = layer.get_submodule(name)
        tap.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    layer(x)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        "gate": (2, 9, 32),
        "dt": (2, 9, 4),
        "log_decay": (2, 9, 4),
    }
    torch.testing.assert_close(seen["log_decay"], -layer.A_log.exp() * seen["dt"])
    assert (seen["log_decay"] < 0).all()


@pytest.mark.parametrize(("wrong", "message"), [({"head_dim": 7}, "head_dim: 7"), ({"n_groups": 3}, "n_groups: 3")])
def test_impossible_dimensions_are_one_line(wrong: dict[str, int], message: str) -> None:
    dimensions = {"d_model": 16, "d_state": 6, "head_dim": 8, "n_layers": 3} | wrong
    with pytest.raises(RequestError, match=message) as caught:
        Mamba2(**dimensions)
    assert "\n" not in str(caught.value)
