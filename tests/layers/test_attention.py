"""Attention layers: steps are one call, positions stay absolute in a window; dropout, precision, costs, draws."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.layers.attention import CausalAttention, SlidingWindowAttention
from assay.layers.basic import GeluMLP, SwiGLU, gpt2_draws
from assay.layers.mixer import SequenceLayer
from assay.layers.randomness import seeded
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.presets.gpt2 import GPT2Config
from assay.ops.execution import Execution, Form

D = 32
LAYERS: dict[str, Callable[[], CausalAttention]] = {
    "gpt1": lambda: CausalAttention(D, 4),
    "gpt2": lambda: CausalAttention(D, 4, bias=True),
    "rotary": lambda: CausalAttention(D, 4, n_kv_heads=2, rope_base=100.0),
    "window": lambda: SlidingWindowAttention(D, 4, 6, n_kv_heads=1, rope_base=100.0),
    "one channel a head": lambda: CausalAttention(D, D),
    "window-1": lambda: SlidingWindowAttention(D, 2, 1, bias=True),
}
CHANNEL_MIXERS: dict[str, Callable[[], SequenceLayer]] = {
    "gelu": lambda: GeluMLP(D, 52),
    "gelu-tanh": lambda: GeluMLP(D, 52, approximate="tanh", bias=True),
    "swiglu": lambda: SwiGLU(D, 52),
}
FORMS = [Execution("loop"), Execution("chunked", 4), Execution("chunked", 16)]


def make(name: str, dtype: torch.dtype = torch.float64) -> SequenceLayer:
    layer = {**LAYERS, **CHANNEL_MIXERS}[name]()
    layer.reset_parameters(torch.Generator().manual_seed(0))
    return redrawn(layer, torch.Generator().manual_seed(1)).to(dtype)


def sequence(tokens: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, tokens, D, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_pieces_and_steps_are_one_call(name: str) -> None:
    layer, x = make(name), sequence(40)
    layer.execution = FORMS[0]
    whole, _ = layer(x)
    for layer.execution in FORMS:
        state, parts = layer.initial_state(2), []
        for piece in x.split([1, 1, 5, 1, 19, 13], 1):
            y, state = layer(piece, state)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
        assert state.length == 40


def test_positions_stay_absolute_once_the_window_is_full() -> None:
    """The keys in the state were turned by their own positions: those of a window that starts anew differ."""
    layer, x = make("window"), sequence(30)
    _, late = layer(x[:, :25])
    _, early = layer(x[:, 20:25])
    assert late.length == 25
    assert late.keys.shape == early.keys.shape
    assert torch.equal(late.values, early.values)
    assert (late.keys - early.keys).abs().max() > 0.1
    # Distances alone decide, so that both give the same output, but not with the places of the two mixed up.
    torch.testing.assert_close(layer(x[:, 25:], late)[0], layer(x[:, 25:], early)[0], rtol=1e-9, atol=1e-9)
    mixed, _ = layer(x[:, 25:], late._replace(length=5))
    assert (mixed - layer(x[:, 25:], late)[0]).abs().max() > 0.01


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_state_bytes_are_those_of_the_state(name: str, dtype: torch.dtype) -> None:
    layer = make(name, dtype)
    for tokens in (1, 5, 6, 50):
        _, state = layer(sequence(tokens, dtype)[:1])
        assert state.keys.nbytes + state.values.nbytes == layer.state_bytes(tokens, dtype.itemsize)
    assert sum(part.nbytes for part in layer.initial_state(1)[:2]) == 0


def test_decoding_in_a_window_takes_constant_memory() -> None:
    layer, x, sizes = make("window"), sequence(30), []
    state = layer.initial_state(2, capacity=30)
    with torch.no_grad():
        for t in range(30):
            _, state = layer(x[:, t : t + 1], state)
            sizes.append(state.keys.untyped_storage().nbytes())
    assert sizes[4:] == sizes[4:5] * 26


@pytest.mark.parametrize("name", [*LAYERS, *CHANNEL_MIXERS])
@pytest.mark.parametrize("execution", FORMS, ids=["loop", "chunked-4", "chunked-16"])
def test_executed_flops_are_what_torch_counts(name: str, execution: Execution) -> None:
    """To the last one, also for a window and for heads of one channel, and in the loop over queries."""
    layer = make(name, torch.float32)
    layer.execution = execution
    for tokens in (1, 7, 37):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            layer(sequence(tokens, torch.float32)[:1])
        executed = layer.executed_flops(tokens)
        assert executed is not None
        assert executed.counted == counter.get_total_flops()
        assert all(flops > 0 for flops in executed.uncounted.values())


def test_uncounted_flops_by_hand() -> None:
    """D = 4, 2 heads of 2, one of keys; 3 tokens: 9 scores a head when fused; 3 x 4 outputs, 3 x 8 of q, k and v."""
    layer = CausalAttention(4, 2, n_kv_heads=1, rope_base=10.0, bias=True)
    assert layer.executed_flops(3).uncounted == {"softmax": 5 * 18, "rotation": 3 * 3 * 6, "biases": 3 * (8 + 4)}
    assert GeluMLP(4, 5, bias=True).executed_flops(3).uncounted == {"gelu": 3 * 5 * 5, "biases": 3 * 9}
    assert SwiGLU(4, 5).executed_flops(3).uncounted == {"silu": 4 * 15, "product": 15}


def test_algorithmic_flops_count_the_keys_that_are_seen() -> None:
    layer = SlidingWindowAttention(4, 1, 3)
    projections, keys_seen = 8 * 4**2, 1 + 2 + 3 + 3 + 3
    assert layer.flops_per_token(5) == projections + 4 * 4 * keys_seen // 5
    assert layer.flops_per_token(3) == CausalAttention(4, 1).flops_per_token(3)


@pytest.mark.parametrize("form", ["loop", "chunked"])
@pytest.mark.parametrize("name", ["gpt1", "gpt2", "transformer++", "sliding-window"])
def test_dropout_reaches_the_attention_weights_in_training_only(name: str, form: Form) -> None:
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.5}), 0)
    layer, x = model.sequence_blocks()[0].mixer, sequence(20, torch.float32)
    layer.execution = Execution(form)

    def run(seed: int) -> Tensor:
        with seeded(layer, seed):
            y: Tensor = layer(x)[0]
            return y

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    layer.eval()
    assert torch.equal(run(0), run(1))


@pytest.mark.parametrize("name", LAYERS)
def test_bfloat16_autocast_is_near(name: str) -> None:
    """In every form, with and without dropout's explicit weights; what comes out is as exact as bfloat16 lets it be."""
    layer, x = make(name, torch.float32), sequence(40, torch.float32)
    exact, _ = layer(x)
    for layer.execution in FORMS:
        with torch.autocast("cpu", torch.bfloat16):
            y, state = layer(x)
            later, _ = layer(x[:, :1], state)
        assert y.dtype == state.keys.dtype == later.dtype == torch.bfloat16
        assert (y - exact).abs().max() < 0.05 * exact.abs().max()


def test_gpt2_draws() -> None:
    """Matrices N(0, 0.02), outputs over sqrt(2 n_layers), positions N(0, 0.01), biases 0 (4 standard errors)."""
    model = build_model(ARCHITECTURES.get("gpt2"), ARCHITECTURES.get("gpt2").config.parse({"d_model": 96,
        "n_heads": 2, "n_layers": 8, "vocab_size": 300}), 0)  # fmt: skip
    expected = {
        "embedding.tokens": 0.02,
        "embedding.positions": 0.01,
        "blocks.3.mixer.qkv.weight": 0.02,
        "blocks.3.mixer.output.weight": 0.02 / 4,
        "blocks.3.channel_mixer.up.weight": 0.02,
        "blocks.3.channel_mixer.down.weight": 0.02 / 4,
    }
    for name, std in expected.items():
        tensor = model.get_parameter(name)
        assert tensor.std().item() == pytest.approx(std, rel=4 / (2 * tensor.numel()) ** 0.5)
        assert abs(tensor.mean().item()) < 4 * std / tensor.numel() ** 0.5
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    assert len(biases) == 8 * 6 + 1
    assert not any(bias.any() for bias in biases)


def test_swiglu_draws() -> None:
    layer = SwiGLU(64, 172, gpt2_draws(8))
    layer.reset_parameters(torch.Generator().manual_seed(0))
    for weight, std in ((layer.gate.weight, 0.02), (layer.up.weight, 0.02), (layer.down.weight, 0.005)):
        assert weight.std().item() == pytest.approx(std, rel=4 / (2 * weight.numel()) ** 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 30}, r"d_model: 30 given, n_heads \(4\) must divide it"),
        ({"n_kv_heads": 3}, r"n_kv_heads: 3 given, it must divide n_heads \(4\)"),
        ({"d_model": 36, "rope_base": 10.0}, "n_heads: 4 given, rotary positions want an even"),
        ({"window": 0}, "window: 0 given"),
    ],
)
def test_impossible_dimensions_are_one_line(arguments: dict[str, Any], message: str) -> None:
    layer = SlidingWindowAttention if "window" in arguments else CausalAttention
    with pytest.raises(RequestError, match=message) as caught:
        layer(**{"d_model": 32, "n_heads": 4, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("transformer++", {"d_model": 36, "n_heads": 4}),
        ("transformer++", {"n_kv_heads": 5}),
        ("sliding-window", {"window": 0}),
    ],
)
def test_impossible_configurations_are_one_line(name: str, wrong: dict[str, int]) -> None:
    with pytest.raises(RequestError, match=list(wrong)[-1]) as caught:
        ARCHITECTURES.get(name).config.parse(wrong)
    assert "\n" not in str(caught.value)


def test_lmplays_family_has_document_003s_dimensions() -> None:
    expected = {
        "gpt2ish": (6, 768, 12),
        "gpt2ish-med": (24, 1024, 16),
        "gpt2ish-large": (36, 1280, 20),
        "s-gpt2ish": (18, 288, 6),
    }
    for name, dimensions in expected.items():
        config = ARCHITECTURES.get(name).config.parse({})
        assert isinstance(config, GPT2Config)
        assert (config.n_layers, config.d_model, config.n_heads) == dimensions
        assert (config.max_positions, config.dropout, config.d_ff) == (1024, 0.1, None)
    small = ARCHITECTURES.get("gpt2ish-test").config.parse({})
    assert isinstance(small, GPT2Config)
    assert (small.n_heads, small.d_model) == (2, 64)
