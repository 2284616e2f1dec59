"""RWKV-7's layers against the paper's equations, token by token, and against the published initialisation."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assay.errors import RequestError
from assay.layers.mixer import SequenceLayer, Shared
from assay.layers.rwkv6 import RWKV6ChannelMix, RWKV6TimeMix
from assay.layers.rwkv7 import Ranks, RWKV7ChannelMix, RWKV7State, RWKV7TimeMix, official_ranks
from assay.ops.execution import Execution, Form, recorded_forms

D, HEAD, T = 24, 6, 37
RANKS = Ranks(decay=5, rate=4, value=3, gate=7)


def redrawn(layer: SequenceLayer) -> SequenceLayer:
    """Every parameter drawn anew in float64, so that no zero hides a path; decays spread over their whole range."""
    generator = torch.Generator().manual_seed(1)
    for name, p in layer.double().named_parameters():
        draw = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if name == "decay.base":
            draw = torch.linspace(-7, 4, len(p), dtype=p.dtype)
        elif p.dim() == 2 and name.endswith((".down", ".up")):
            draw = draw / math.sqrt(p.shape[0])
        elif p.dim() == 2 and name.endswith(".weight"):
            draw = draw / math.sqrt(p.shape[1])
        p.data.copy_(draw)
    return layer


def time_mix(first: bool = False) -> RWKV7TimeMix:
    layer = redrawn(RWKV7TimeMix(D, HEAD, layer=1, n_layers=3, first=first, ranks=RANKS))
    assert isinstance(layer, RWKV7TimeMix)
    return layer


def channel_mix() -> RWKV7ChannelMix:
    layer = redrawn(RWKV7ChannelMix(D, 40, layer=1, n_layers=3))
    assert isinstance(layer, RWKV7ChannelMix)
    return layer


LAYERS: dict[str, Callable[[], SequenceLayer]] = {"time mix": time_mix, "channel mix": channel_mix}


def inputs(batch: int = 2, length: int = T, seed: int = 2) -> Tensor:
    return torch.randn(batch, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def time_mix_by_token(layer: RWKV7TimeMix, sequence: Tensor, first_values: Tensor) -> Tensor:
    """Section 4 of the paper for one sequence [T, D], in plain vectors."""
    p = dict(layer.named_parameters())
    state = torch.zeros(D // HEAD, HEAD, HEAD, dtype=torch.float64)
    before, outputs = torch.zeros(D, dtype=torch.float64), []
    for x, first in zip(sequence, first_values, strict=True):
        stream = {name: x + (before - x) * mu for name, mu in zip("rwkvag", p["mu"], strict=True)}
        r, k, v = (p[f"{n}.weight"] @ stream[s] for n, s in (("receptance", "r"), ("key", "k"), ("value", "v")))
        d = p["decay.base"] + torch.tanh(stream["w"] @ p["decay.down"]) @ p["decay.up"]
        w = torch.exp(-math.exp(-0.5) / (1 + torch.exp(-d)))
        alpha = torch.sigmoid(p["rate.base"] + stream["a"] @ p["rate.down"] @ p["rate.up"])
        nu = torch.sigmoid(p["value_gate.base"] + stream["v"] @ p["value_gate.down"] @ p["value_gate.up"])
        g = torch.sigmoid(stream["g"] @ p["gate.down"]) @ p["gate.up"]
        v = v + (first - v) * nu
        kappa, replacement = k * p["removal"], k * (1 + (alpha - 1) * p["replacement"])
        heads_out = []
        for h in range(D // HEAD):
            part = slice(h * HEAD, (h + 1) * HEAD)
            hat = kappa[part] / kappa[part].square().sum().sqrt()
            transition = torch.diag(w[part]) - torch.outer(hat, alpha[part] * hat)
            state[h] = state[h] @ transition + torch.outer(v[part], replacement[part])
            y = state[h] @ r[part]
            y = (y - y.mean()) / torch.sqrt(y.var(correction=0) + 64e-5)
            bonus = (r[part] * p["bonus"][h] * replacement[part]).sum()
            heads_out.append(y * p["norm_weight"][part] + p["norm_bias"][part] + bonus * v[part])
        outputs.append(p["output.weight"] @ (g * torch.cat(heads_out)))
        before = x
    return torch.stack(outputs)


@torch.no_grad()
def test_time_mix_is_the_papers() -> None:
    layer, x, first = time_mix(), inputs(), inputs(seed=3)
    y, _ = layer(x, None, {"rwkv7.value_first": first})
    expected = torch.stack([time_mix_by_token(layer, *each) for each in zip(x, first, strict=True)])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_channel_mix_is_the_papers() -> None:
    layer, x = channel_mix(), inputs()
    before = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1)
    hidden = (x + (before - x) * layer.mu_k) @ layer.key.weight.mT
    torch.testing.assert_close(layer(x)[0], (hidden.clamp_min(0) ** 2) @ layer.value.weight.mT, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_first_layer_publishes_its_values_and_later_ones_read_them() -> None:
    first, later, x = time_mix(first=True), time_mix(), inputs()
    assert not any(name.startswith("value_gate") for name, _ in first.named_parameters())
    shared: Shared = {}
    first(x, None, shared)
    published = shared["rwkv7.value_first"].clone()
    difference = torch.cat((torch.zeros_like(x[:, :1]), x[:, :-1]), 1) - x
    torch.testing.assert_close(published, (x + difference * first.mu[3]) @ first.value.weight.mT)
    with_first, _ = later(x, None, shared)
    assert torch.equal(shared["rwkv7.value_first"], published)
    alone, _ = later(x)
    own: Shared = {}
    torch.testing.assert_close(later(x, None, own)[0], alone)
    assert (with_first - alone).abs().max() > 0.1
    torch.testing.assert_close(later(x, None, own)[0], alone)


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_any_split_equals_one_pass(name: str, form: Form) -> None:
    layer, x, first = LAYERS[name](), inputs(), inputs(seed=3)
    layer.execution = Execution(form=form, chunk_length=16)
    with recorded_forms() as forms:
        whole, final = layer(x, None, {"rwkv7.value_first": first})
    assert forms == ({"wkv7": {form}} if name == "time mix" else {})
    for cuts in ((0, 1, T), (0, 20, T), (0, 16, 17, T), range(T + 1)):
        state, parts = layer.initial_state(len(x)), []
        for begin, end in itertools.pairwise(cuts):
            part, state = layer(x[:, begin:end], state, {"rwkv7.value_first": first[:, begin:end]})
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(tuple(state), tuple(final), rtol=1e-9, atol=1e-9)


def test_loop_and_chunked_agree_with_their_gradients() -> None:
    x, results = inputs(), []
    forms: tuple[Form, ...] = ("loop", "chunked")
    for form in forms:
        layer = time_mix()
        layer.execution = Execution(form=form)
        y, state = layer(x, None, {"rwkv7.value_first": inputs(seed=3)})
        (y.sin().sum() + state.wkv.sin().sum()).backward()
        results.append((y.detach(), *(p.grad for p in layer.parameters())))
    for loop, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, loop, rtol=1e-9, atol=1e-9 * float(loop.abs().max()))


@pytest.mark.parametrize("name", LAYERS)
def test_causality(name: str) -> None:
    """Position 20 depends on itself and on its past (the channel mix on one neighbour), on nothing later."""
    layer, x = LAYERS[name](), inputs(1).requires_grad_()
    layer.execution = Execution("loop")
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


def test_recurrence_stays_in_float32_under_autocast() -> None:
    layer = time_mix().float()
    seen: list[torch.dtype] = []
    layer.decay_tap.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(inputs().float())
        y, state = layer(inputs().float(), state, {"rwkv7.value_first": inputs(seed=3).bfloat16()})
    assert isinstance(state, RWKV7State)
    assert state.wkv.dtype == torch.float32
    assert set(seen) == {torch.float32}
    assert y.isfinite().all()


def of_width_64(name: str) -> SequenceLayer:
    if name == "rwkv6 time mix":
        return RWKV6TimeMix(64, 16, 1, 3)
    if name == "rwkv6 channel mix":
        return RWKV6ChannelMix(64, None, 1, 3)
    if name == "channel mix":
        return RWKV7ChannelMix(64, 256, 1, 3)
    return RWKV7TimeMix(64, 16, 1, 3, first=name == "first time mix")


@torch.no_grad()
@pytest.mark.parametrize("name", ["rwkv6 time mix", "rwkv6 channel mix", "first time mix", "time mix", "channel mix"])
def test_executed_flops_are_those_torch_counts(name: str) -> None:
    """The counts are equal to the last FLOP, at the published initialisation, with whose decays no chunk is halved."""
    layer = of_width_64(name)
    layer.reset_parameters(torch.Generator().manual_seed(3))
    chunked = itertools.product((1, 5, 37, 96), (Execution("chunked", 16), Execution("chunked")))
    for tokens, execution in ((1, Execution("loop")), (5, Execution("loop")), *chunked):
        layer.execution = execution
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(1, tokens, 64, generator=torch.Generator().manual_seed(4)))
        executed = layer.executed_flops(tokens)
        assert executed is not None
        assert executed.counted == counter.get_total_flops(), (tokens, execution)
        assert min(executed.uncounted.values()) > 0


def test_flops_per_token_count_the_recurrence_besides_what_the_loop_multiplies() -> None:
    layer = of_width_64("time mix")
    layer.execution = Execution("loop")
    executed = layer.executed_flops(10)
    assert executed is not None
    assert 10 * layer.flops_per_token(10) == executed.counted + 10 * 4 * (9 * 16**2 + 4 * 16)


def fresh(number: int, n_layers: int) -> RWKV7TimeMix:
    layer = RWKV7TimeMix(64, 16, number, n_layers, first=number == 0)
    layer.reset_parameters(torch.Generator().manual_seed(3))
    return layer


def test_initialisation_of_the_first_and_last_layer() -> None:
    """The published values at both ends of the depth, worked out by hand."""
    first, last = fresh(0, 4), fresh(3, 4)
    exponents = (0.2, 0.9, 0.7, 0.7, 0.9, 0.2)
    assert first.mu[:, 32].tolist() == pytest.approx([1 - 0.5**c for c in exponents])
    assert last.mu[:, 32].tolist() == pytest.approx([1 - 0.5 ** (c / 4) for c in exponents])
    assert last.value_gate is not None
    assert first.decay.base is not None
    assert last.decay.base is not None
    assert last.rate.base is not None
    assert last.value_gate.base is not None
    # Ends of a head: z = -1 and 1; channel 21 is a third of the way, and number 5 of its head: z = -1/3.
    third = -2.5 / 9
    assert first.decay.base[[0, 21, -1]].tolist() == pytest.approx([-8, -5.5 + 6 / 3 + third, 3])
    assert last.decay.base[[0, 21, -1]].tolist() == pytest.approx([-8, -5.5 + 6 / 9 + third, 3])
    assert last.rate.base[[0, 21, -1]].tolist() == pytest.approx([-0.69, -0.19 - 0.3 / 9 - 0.4 / 6, 0.31])
    assert last.value_gate.base[[0, 21, -1]].tolist() == pytest.approx([0.93, 0.73 + 0.4 / 6, 0.53])
    assert last.removal[[0, 21, -1]].tolist() == pytest.approx([0.76, 0.71 + 0.1 / 6, 0.66])
    assert last.replacement.unique().item() == pytest.approx(1.02)
    assert last.bonus.unique().item() == pytest.approx(-0.04)
    assert first.norm_weight.unique().item() == pytest.approx(0.25**0.7)
    assert last.norm_weight.unique().item() == pytest.approx(1.0)
    assert last.norm_bias.count_nonzero() == 0


def test_initialisation_of_the_matrices() -> None:
    layer = fresh(1, 4)
    identity = torch.eye(64)
    for linear, gain in ((layer.receptance, 1.0), (layer.value, 1.0), (layer.key, 0.1)):
        torch.testing.assert_close(linear.weight @ linear.weight.mT, gain**2 * identity, rtol=0, atol=1e-5)
    assert layer.output.weight.count_nonzero() == 0
    assert layer.value_gate is not None
    for pair in (layer.decay, layer.rate, layer.value_gate, layer.gate):
        assert pair.down.count_nonzero() == 0
        torch.testing.assert_close(pair.up @ pair.up.mT, 0.01 * torch.eye(32), rtol=0, atol=1e-6)
    channel = RWKV7ChannelMix(64, 256, 1, 4)
    channel.reset_parameters(torch.Generator().manual_seed(3))
    torch.testing.assert_close(channel.key.weight.mT @ channel.key.weight, identity, rtol=0, atol=1e-5)
    assert channel.value.weight.count_nonzero() == 0
    assert channel.mu_k[32].item() == pytest.approx(1 - 0.5 ** (0.75**4))


def test_ranks_wider_than_the_model_are_scaled_up() -> None:
    layer = RWKV7TimeMix(8, 4, 0, 1, first=True, ranks=Ranks(32, 32, 32, 32))
    layer.reset_parameters(torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer.gate.up.mT @ layer.gate.up, 0.04 * torch.eye(8), rtol=0, atol=1e-6)


def test_official_ranks() -> None:
    """At the widths of the 0.1B, 0.4B and 2.9B models, worked out by hand."""
    assert official_ranks(768) == (64, 64, 32, 128)
    assert official_ranks(1024) == (64, 64, 64, 160)
    assert official_ranks(2560) == (128, 128, 96, 256)


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


def test_taps_see_decays_rates_gate_and_the_share_of_the_first_values() -> None:
    layer = time_mix()
    seen: dict[str, Tensor] = {}
    names = ["decay_tap", "rate_tap", "value_tap", "gate_tap"]
    for name in names:
        layer.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output.detach()})
        )
    layer(inputs())
    assert {name: tuple(x.shape) for name, x in seen.items()} == dict.fromkeys(names, (2, T, D))
    assert -math.exp(-0.5) < seen["decay_tap"].min() < seen["decay_tap"].max() < 0


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(RequestError, match=r"d_model: 24 given, head_dim \(7\) must divide it"):
        RWKV7TimeMix(24, 7, 0, 1, first=True)
