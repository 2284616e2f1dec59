"""Counted parameters and FLOPs against published numbers, counts by hand, and what torch really executes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from assay.layers.mixer import state_tensors
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.sizing import build_on_meta
from assay.ops.attention import causal_attention_loop

DOCUMENT_000 = {"heads": "tied", "vocab_size": 16000, "d_model": 144, "n_layers": 8, "n_heads": 4, "max_positions": 512}


def gpt1(**dimensions: object) -> LanguageModel:
    architecture = ARCHITECTURES.get("gpt1")
    return build_on_meta(architecture, architecture.config.parse(dimensions))


def test_document_000() -> None:
    """Tables of 16000 and 512 rows of D = 144, 8 blocks of 12 D^2 + 2 D, a last norm of D; tied head, no biases."""
    counted = count_parameters(gpt1(**DOCUMENT_000))
    assert counted.total == 4_370_832
    assert counted.embedding == (16000 + 512) * 144
    assert counted.non_embedding == 8 * (12 * 144**2 + 2 * 144) + 144
    assert counted.groups == {
        "embedding": (16000 + 512) * 144,
        "mixers": 8 * 4 * 144**2,
        "channel_mixers": 8 * 8 * 144**2,
        "norms": 17 * 144,
        "head": 0,
    }


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_a_tied_head_is_counted_once(name: str) -> None:
    architecture = ARCHITECTURES.get(name)
    tied, untied = (
        build_model(architecture, architecture.config.parse({**architecture.tiny, "heads": heads}), 0)
        for heads in ("tied", "untied")
    )
    table = tied.embedding.tokens.numel()
    assert count_parameters(tied).groups["head"] == 0
    assert count_parameters(untied).groups["head"] == table
    assert count_parameters(untied).total == count_parameters(tied).total + table
    assert count_parameters(untied).embedding == count_parameters(tied).embedding
    # Alike for both: without tables and heads, and with one head of vocabulary x width.
    assert count_parameters(untied).non_embedding == count_parameters(tied).non_embedding
    assert count_parameters(untied).blocks_and_head == count_parameters(tied).blocks_and_head
    assert count_parameters(tied).blocks_and_head == count_parameters(tied).non_embedding + table
    assert untied.head_weight is not untied.embedding.tokens
    # A tied head costs as many FLOPs as an untied one.
    assert count_flops(untied, 16) == count_flops(tied, 16)


def test_attention_flops_by_hand() -> None:
    """D = 4, one head, contexts of 1 to 3: projections 4 D^2 multiply-adds, D + D for each key a query sees."""
    (block,) = gpt1(vocab_size=10, d_model=4, n_layers=1, n_heads=1).sequence_blocks()
    for context, keys_seen in ((1, 1), (2, 1 + 2), (3, 1 + 2 + 3)):
        whole_window = context * 2 * 4 * 4**2 + keys_seen * 2 * 2 * 4
        assert block.mixer.flops_per_token(context) * context == whole_window


@pytest.mark.parametrize("context", [16, 64])
def test_flops_of_gpt1_against_what_is_executed(context: int) -> None:
    """torch counts both halves of the attention matrix, which the formula counts once with its diagonal."""
    architecture = ARCHITECTURES.get("gpt1")
    config = architecture.config.parse({"vocab_size": 200, "d_model": 64, "n_layers": 3, "n_heads": 4})
    model = build_model(architecture, config, 0)
    # The counter knows no fused attention of CPUs: torch's own composition of matrix products is counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, context, dtype=torch.int64))
    executed = counter.get_total_flops() / (2 * context)
    square = 3 * 4 * 64 * context
    triangle = 3 * 4 * 64 * (context + 1) / 2
    assert executed - square + triangle == pytest.approx(count_flops(model, context).forward, rel=0.02)
    assert executed == pytest.approx(count_flops(model, context).forward + square - triangle, rel=1e-9)


def test_flops_of_the_causal_half_are_those_of_the_loop() -> None:
    """The loop over queries computes only scores of keys that a query may see, as the formula counts.

    Query 0 is left out: torch does its one product without a matrix multiplication and so does not count it.
    """
    q, k, v = (torch.zeros(1, 24, 2, 8) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        causal_attention_loop(q[:, 1:], k, v)
    (block,) = gpt1(vocab_size=10, d_model=16, n_layers=1, n_heads=2).sequence_blocks()
    projections, first_query = 8 * 16**2, 4 * 16
    assert counter.get_total_flops() == 24 * (block.mixer.flops_per_token(24) - projections) - first_query


@pytest.mark.parametrize("name", [item.name for item in ARCHITECTURES if item.scale.depth is not None])
def test_flops_close(name: str) -> None:
    """Layers and head add up, training is three times forward, and depth enters linearly after the first layer."""
    architecture = ARCHITECTURES.get(name)
    models = [
        build_on_meta(architecture, architecture.config.parse({**architecture.tiny, "n_layers": n})) for n in (1, 2, 3)
    ]
    one, two, three = (count_flops(model, 32) for model in models)
    first = sum(layer.flops_per_token(32) for layer in models[0].sequence_blocks()[0].layers())
    assert three.forward - two.forward == two.forward - one.forward
    assert one.forward == first + 2 * 61 * 32
    assert two.training == 3 * two.forward


def test_attention_state_bytes_by_hand() -> None:
    model = gpt1(vocab_size=10, d_model=8, n_layers=3, n_heads=2)
    assert count_state_bytes(model, 100) == 3 * 2 * 100 * 8 * 4
    assert count_state_bytes(model, 100, bytes_per_element=2) == 3 * 2 * 100 * 8 * 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_declared_state_bytes_are_those_that_are_held(name: str, precision: str) -> None:
    """Of every layer after nine tokens, under autocast too."""
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0).eval()
    width = {"float32": 4, "bfloat16": 2}[precision]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        _, state = model.hidden(torch.arange(9)[None])
    for block, of in zip(model.sequence_blocks(), state.blocks, strict=True):
        for layer, part in zip(block.layers(), of, strict=False):
            held = sum(tensor.numel() * tensor.element_size() for tensor in state_tensors(part))
            assert layer.state_bytes(9, width) == held
