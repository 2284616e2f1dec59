"""DeltaNet and Gated DeltaNet give the numbers of their authors' code, for whole layers and models, in float64."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.ops.delta_rule import delta_rule_loop
from assay.ops.execution import Execution, recorded_forms

Golden = dict[str, Tensor]
TOLERANCE = 1e-10
"""The largest difference allowed, relative to the largest expected value."""
MOVED = 1e-3
"""Rotating the elements of any one tensor by one place must change the logits by this share: 1e7 tolerances."""

SMALL = {"d_model": 32, "d_ff": 48, "vocab_size": 61, "heads": "untied"}
CASES: dict[tuple[str, str], dict[str, object]] = {
    ("delta-net", "published"): {"n_layers": 2, "n_heads": 2, "head_dim": 16},
    ("delta-net", "options"): {
        "n_layers": 1,
        "n_heads": 4,
        "head_dim": 8,
        "value_dim": 12,
        "conv_width": 0,
        "output_gate": True,
        "negative_eigenvalues": True,
    },
    ("gated-delta-net", "published"): {"n_layers": 2, "n_heads": 2, "head_dim": 12},
    ("gated-delta-net", "options"): {
        "n_layers": 1,
        "n_heads": 2,
        "n_value_heads": 4,
        "head_dim": 10,
        "value_dim": 12,
        "conv_width": 3,
        "output_gate": False,
        "negative_eigenvalues": True,
    },
}
FORMS = [Execution("loop"), Execution("chunked", 16)]

OUTER = {
    "model.embeddings.weight": "embedding.tokens",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "untied_head",
}
BLOCK = {
    "attn_norm.weight": "mixer_norm.weight",
    "attn.a_proj.weight": "mixer.decay_proj.weight",
    "attn.b_proj.weight": "mixer.beta_proj.weight",
    "attn.g_proj.weight": "mixer.gate_proj.weight",
    "attn.A_log": "mixer.A_log",
    "attn.dt_bias": "mixer.dt_bias",
    "attn.o_norm.weight": "mixer.norm.weight",
    "attn.o_proj.weight": "mixer.output_proj.weight",
    "mlp_norm.weight": "channel_mixer_norm.weight",
    "mlp.gate_proj.weight": "channel_mixer.gate.weight",
    "mlp.up_proj.weight": "channel_mixer.up.weight",
    "mlp.down_proj.weight": "channel_mixer.down.weight",
}


@functools.cache
def golden(name: str, case: str) -> Golden:
    tensors = load_file(Path(__file__).with_name(f"{name.replace('-', '_')}.safetensors"))
    return {key.removeprefix(f"{case}."): x for key, x in tensors.items() if key.startswith(f"{case}.")}


def our_weights(name: str, case: str) -> Golden:
    """Their weights under our names; every one of theirs is used, or this fails."""
    theirs = {k.removeprefix("weight."): x.double() for k, x in golden(name, case).items() if k.startswith("weight.")}
    ours = {mine: theirs.pop(their) for their, mine in OUTER.items()}
    for block in range(int(str(CASES[name, case]["n_layers"]))):
        layer = f"model.layers.{block}."
        streams = [theirs.pop(f"{layer}attn.{stream}_proj.weight") for stream in "qkv"]
        ours[f"blocks.{block}.mixer.qkv_proj.weight"] = torch.cat(streams)
        if f"{layer}attn.q_conv1d.weight" in theirs:
            filters = [theirs.pop(f"{layer}attn.{stream}_conv1d.weight").squeeze(1) for stream in "qkv"]
            ours[f"blocks.{block}.mixer.conv_weight"] = torch.cat(filters)
        for their, mine in BLOCK.items():
            if layer + their in theirs:
                ours[f"blocks.{block}.{mine}"] = theirs.pop(layer + their)
    assert not theirs
    return ours


def model(name: str, case: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    built = build_model(architecture, architecture.config.parse({**SMALL, **CASES[name, case]}), 0).double().eval()
    built.load_state_dict(our_weights(name, case))
    return built


@torch.no_grad()
@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.parametrize("execution", FORMS, ids=["loop", "chunked"])
def test_layers_and_logits_are_the_authors(name: str, case: str, execution: Execution) -> None:
    ours, expected = model(name, case), golden(name, case)
    ours.set_execution(execution)
    found: Golden = {}
    for index, block in enumerate(ours.sequence_blocks()):
        key = f"output.layers.{index}.attn"
        block.mixer.register_forward_hook(lambda _module, _inputs, output, key=key: found.update({key: output[0]}))
    with recorded_forms() as forms:
        found["output.logits"] = ours(expected["ids"])
    assert forms["delta_rule"] == {execution.form}
    assert found.keys() == {key for key in expected if key.startswith("output.")}
    for key, y in found.items():
        assert float((y - expected[key]).abs().max() / expected[key].abs().max()) < TOLERANCE, key


@torch.no_grad()
@pytest.mark.parametrize(("name", "case"), CASES)
def test_every_tensor_matters(name: str, case: str) -> None:
    """Each tensor's elements are rotated in turn: a misplaced tensor could not have passed the comparison above."""
    ours, expected = model(name, case), golden(name, case)
    ids, logits = expected["ids"][:1], expected["output.logits"][:1]
    for key, parameter in ours.named_parameters():
        kept = parameter.clone()
        parameter.copy_(kept.flatten().roll(1).view_as(kept))
        moved = float((ours(ids) - logits).abs().max() / logits.abs().max())
        parameter.copy_(kept)
        assert moved > MOVED, (key, moved)


@pytest.mark.parametrize("decays", [False, True])
def test_the_loop_is_that_of_flash_linear_attention(decays: bool) -> None:
    """Against that library's naive functions, which scale q; the one without decay has the axis of heads first."""
    plain = pytest.importorskip("fla.ops.delta_rule.naive").delta_rule_recurrence
    gated = pytest.importorskip("fla.ops.gated_delta_rule.naive").naive_recurrent_gated_delta_rule
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 37, 3, 8, generator=generator).unbind()
    k = torch.nn.functional.normalize(k, dim=-1)
    beta, log_decay = torch.rand(2, 2, 37, 3, generator=generator).unbind()
    state = torch.randn(2, 3, 8, 8, generator=generator)
    if decays:
        expected, last = gated(q, k, v, beta, -log_decay, initial_state=state, output_final_state=True)
    else:
        heads_first = (x.transpose(1, 2) for x in (q, k, v, beta))
        expected, last = plain(*heads_first, initial_state=state)
        expected = expected.transpose(1, 2)
    y, final = delta_rule_loop(q * 8**-0.5, k, v, beta, -log_decay if decays else None, state)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final, last, rtol=1e-4, atol=1e-4)
