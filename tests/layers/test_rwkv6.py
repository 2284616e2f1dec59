"""RWKV-6's layers against the paper's equations, token by token, and against the published initialisation."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer
from assay.layers.rwkv6 import RWKV6ChannelMix, RWKV6State, RWKV6TimeMix
from assay.ops.execution import Execution, Form, recorded_forms

D, HEAD, T = 24, 6, 37


def redrawn(layer: SequenceLayer) -> SequenceLayer:
    """Every parameter drawn anew in float64, so that no zero hides a path; decays spread from 1e-3 to 20 a step."""
    generator = torch.Generator().manual_seed(1)
    for name, p in layer.double().named_parameters():
        draw = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if name == "decay_base":
            draw = torch.linspace(math.log(1e-3), math.log(20), len(p), dtype=p.dtype)
        elif name.endswith(("_down", "_up")):
            draw = draw / math.sqrt(p.shape[-2])
        elif p.dim() == 2 and name.endswith(".weight"):
            draw = draw / math.sqrt(p.shape[1])
        p.data.copy_(draw)
    return layer


def time_mix() -> RWKV6TimeMix:
    layer = redrawn(RWKV6TimeMix(D, HEAD, layer=1, n_layers=3, decay_rank=5, shift_rank=4))
    assert isinstance(layer, RWKV6TimeMix)
    return layer


def channel_mix() -> RWKV6ChannelMix:
    layer = redrawn(RWKV6ChannelMix(D, 40, layer=1, n_layers=3))
    assert isinstance(layer, RWKV6ChannelMix)
    return layer


LAYERS = {"time mix": time_mix, "channel mix": channel_mix}


def inputs(batch: int = 2, length: int = T) -> Tensor:
    return torch.randn(batch, length, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def time_mix_by_token(layer: RWKV6TimeMix, sequence: Tensor) -> Tensor:
    """Section 4 of the paper for one sequence [T, D], in plain vectors."""
    p = dict(layer.named_parameters())
    rank, heads = p["shift_up"].shape[1], D // HEAD
    state = torch.zeros(heads, HEAD, HEAD, dtype=torch.float64)
    before, outputs = torch.zeros(D, dtype=torch.float64), []
    for x in sequence:
        base = x + (before - x) * p["mu_x"]
        stream = {}
        for i, name in enumerate("wkvrg"):
            low = torch.tanh(base @ p["shift_down"][:, i * rank : (i + 1) * rank]) @ p["shift_up"][i]
            stream[name] = x + (before - x) * (p["mu"][i] + low)
        d = p["decay_base"] + torch.tanh(stream["w"] @ p["decay_down"]) @ p["decay_up"]
        w = torch.exp(-torch.exp(d))
        r = p["receptance.weight"] @ stream["r"]
        k = p["key.weight"] @ stream["k"]
        v = p["value.weight"] @ stream["v"]
        g = p["gate.weight"] @ stream["g"]
        heads_out = []
        for h in range(heads):
            part = slice(h * HEAD, (h + 1) * HEAD)
            outer = torch.outer(k[part], v[part])
            y = r[part] @ (state[h] + torch.diag(p["bonus"][h]) @ outer)
            state[h] = torch.diag(w[part]) @ state[h] + outer
            y = (y - y.mean()) / torch.sqrt(y.var(correction=0) + 64e-5)
            heads_out.append(y * p["norm_weight"][part] + p["norm_bias"][part])
        outputs.append(p["output.weight"] @ (torch.cat(heads_out) * g * torch.sigmoid(g)))
        before = x
    return torch.stack(outputs)


def channel_mix_by_token(layer: RWKV6ChannelMix, sequence: Tensor) -> Tensor:
    p = dict(layer.named_parameters())
    before, outputs = torch.zeros(D, dtype=torch.float64), []
    for x in sequence:
        hidden = p["key.weight"] @ (x + (before - x) * p["mu_k"])
        r = p["receptance.weight"] @ (x + (before - x) * p["mu_r"])
        outputs.append(torch.sigmoid(r) * (p["value.weight"] @ hidden.clamp_min(0) ** 2))
        before = x
    return torch.stack(outputs)


@torch.no_grad()
def test_time_mix_is_the_papers() -> None:
    layer, x = time_mix(), inputs()
    y, _ = layer(x)
    expected = torch.stack([time_mix_by_token(layer, sequence) for sequence in x])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_channel_mix_is_the_papers() -> None:
    layer, x = channel_mix(), inputs()
    y, _ = layer(x)
    expected = torch.stack([channel_mix_by_token(layer, sequence) for sequence in x])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_any_split_equals_one_pass(name: str, form: Form) -> None:
    layer, x = LAYERS[name](), inputs()
    layer.execution = Execution(form=form, chunk_length=16)
    with recorded_forms() as forms:
        whole, final = layer(x)
    assert forms == ({"wkv6": {form}} if name == "time mix" else {})
    for cuts in ((0, 1, T), (0, 20, T), (0, 16, 17, T), range(T + 1)):
        state, parts = layer.initial_state(len(x)), []
        for begin, end in itertools.pairwise(cuts):
            part, state = layer(x[:, begin:end], state)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(tuple(state), tuple(final), rtol=1e-9, atol=1e-9)


def test_loop_and_chunked_agree_with_their_gradients() -> None:
    x, results = inputs(), []
    forms: tuple[Form, ...] = ("loop", "chunked")
    for form in forms:
        layer = time_mix()
        layer.execution = Execution(form=form)
        y, state = layer(x)
        (y.sin().sum() + state.wkv.sin().sum()).backward()
        results.append((y.detach(), *(p.grad for p in layer.parameters())))
    for loop, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, loop, rtol=1e-9, atol=1e-9 * float(loop.abs().max()))


@pytest.mark.parametrize("name", LAYERS)
def test_causality(name: str) -> None:
    """Position 20 depends on itself and on its past (the channel mix on one neighbour), on nothing later."""
    layer, x = LAYERS[name](), inputs(1).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0][0, 20].sin().sum(), x)
    size = gradient[0].abs().amax(-1)
    assert size[20] > 0
    assert size[19] > 0
    assert (size[0] > 0) == (name == "time mix")
    assert size[21:].max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_state_bytes_are_those_of_the_state(name: str, dtype: torch.dtype) -> None:
    layer = LAYERS[name]().to(dtype)
    _, state = layer(inputs(3).to(dtype))
    initial = layer.initial_state(3)
    assert [(x.shape, x.dtype) for x in state] == [(x.shape, x.dtype) for x in initial]
    if dtype != torch.bfloat16:  # beside bfloat16 activations weights are float32, and so is the state
        assert sum(x.nbytes for x in state) == 3 * layer.state_bytes(T, dtype.itemsize)


def test_state_stays_in_float32_under_autocast() -> None:
    layer = time_mix().float()
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(inputs().float())
        y, state = layer(inputs().float(), state)
    assert isinstance(state, RWKV6State)
    assert state.wkv.dtype == torch.float32
    assert y.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_flops_of_the_projections_are_those_torch_counts(name: str) -> None:
    """The loop multiplies element by element, which torch does not count: what is left is the recurrence."""
    layer, x = LAYERS[name](), inputs()
    layer.execution = Execution(form="loop")
    with FlopCounterMode(display=False) as counter:
        layer(x)
    recurrence = D // HEAD * (5 * HEAD**2 + 4 * HEAD) if name == "time mix" else 0
    assert layer.flops_per_token(T) * x.shape[0] * T == counter.get_total_flops() + recurrence * x.shape[0] * T


def fresh(number: int, n_layers: int) -> RWKV6TimeMix:
    layer = RWKV6TimeMix(64, 16, number, n_layers)
    layer.reset_parameters(torch.Generator().manual_seed(3))
    return layer


def test_initialisation_of_the_first_and_last_layer() -> None:
    """The published values at both ends of the depth, worked out by hand."""
    first, last = fresh(0, 4), fresh(3, 4)
    half = 32
    assert first.mu_x[half].item() == pytest.approx(0.5)
    assert first.mu[:, half].tolist() == pytest.approx([0.5, 0.5, 0.5, 1 - 0.5**0.5, 1 - 0.5**0.5])
    fourth = 0.5**0.25
    assert last.mu[:, half].tolist() == pytest.approx(
        [1 - fourth, 1 - fourth, 0.7 - fourth, 1 - fourth**0.5, 1 - fourth**0.5]
    )
    assert first.decay_base[[0, -1]].tolist() == pytest.approx([-6, -1])
    assert first.decay_base[21].item() == pytest.approx(-6 + 5 * (1 / 3) ** 0.7)
    assert last.decay_base[21].item() == pytest.approx(-6 + 5 * (1 / 3) ** 2)
    assert first.bonus.flatten()[:4].tolist() == pytest.approx([0.0, 0.1, -0.1, 0.0])
    assert last.bonus.flatten()[[0, 21, -1]].tolist() == pytest.approx([1.0, 2 / 3, 0.0])
    assert first.norm_weight.unique().item() == pytest.approx(0.25**0.7)
    assert last.norm_weight.unique().item() == pytest.approx(1.0)


def test_initialisation_of_the_matrices() -> None:
    layer = fresh(1, 4)
    identity = torch.eye(64)
    for linear, gain in ((layer.receptance, 1.0), (layer.value, 1.0), (layer.key, 0.1), (layer.gate, 0.1)):
        torch.testing.assert_close(linear.weight @ linear.weight.mT, gain**2 * identity, rtol=0, atol=1e-5)
    for zero in (layer.output.weight, layer.shift_down, layer.decay_down):
        assert zero.count_nonzero() == 0
    for up in (layer.shift_up, layer.decay_up):
        assert 0.009 < up.abs().max() <= 0.01
    channel = RWKV6ChannelMix(64, None, 1, 4)
    channel.reset_parameters(torch.Generator().manual_seed(3))
    assert channel.key.weight.shape == (224, 64)
    torch.testing.assert_close(channel.key.weight.mT @ channel.key.weight, identity, rtol=0, atol=1e-5)
    assert channel.value.weight.count_nonzero() == channel.receptance.weight.count_nonzero() == 0
    assert channel.mu_k[32].item() == channel.mu_r[32].item() == pytest.approx(1 - 0.5**0.75)


def test_initialisation_comes_from_the_generator_alone() -> None:
    torch.manual_seed(1)
    one = fresh(1, 4)
    torch.manual_seed(2)
    other = fresh(1, 4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_every_own_parameter_has_a_decay_role(name: str) -> None:
    layer = LAYERS[name]()
    assert set(layer.decay_roles) == {name for name, _ in layer.named_parameters(recurse=False)}


def test_taps_see_gate_decay_and_mixing_weights() -> None:
    layer = time_mix()
    seen: dict[str, Tensor] = {}
    names = [*(f"shift_taps.{i}" for i in range(5)), "decay_tap", "gate_tap"]
    for name in names:
        layer.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output.detach()})
        )
    layer(inputs())
    assert {name: tuple(x.shape) for name, x in seen.items()} == dict.fromkeys(names, (2, T, D))
    assert seen["decay_tap"].max() < 0


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(RequestError, match=r"d_model: 24 given, head_dim \(7\) must divide it"):
        RWKV6TimeMix(24, 7, 0, 1)
