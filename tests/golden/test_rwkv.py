"""RWKV-6 and RWKV-7 give the numbers of their authors' own code, for whole layers and models, in float64."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution, recorded_forms
from assay.ops.wkv6 import wkv6_loop

Golden = dict[str, Tensor]
TOLERANCE = 1e-10
"""The largest difference allowed, relative to the largest expected value."""
MOVED = 1e-2
"""Shuffling the elements of any one tensor must move the logits by this share of the largest: 1e8 tolerances."""

DIMENSIONS = {
    "rwkv6": {"n_layers": 2, "shift_rank": 32, "decay_rank": 64},
    "rwkv7": {"n_layers": 3, "decay_rank": 8, "rate_rank": 6, "value_rank": 4, "gate_rank": 10},
}
FORMS = [Execution("loop"), Execution("chunked", 16)]

OUTER = {
    "emb.weight": "embedding.tokens",
    "blocks.0.ln0.weight": "embedding.norm.weight",
    "blocks.0.ln0.bias": "embedding.norm.bias",
    "ln_out.weight": "norm.weight",
    "ln_out.bias": "norm.bias",
    "head.weight": "untied_head",
}
BLOCK = {
    "ln1.weight": "mixer_norm.weight",
    "ln1.bias": "mixer_norm.bias",
    "ln2.weight": "channel_mixer_norm.weight",
    "ln2.bias": "channel_mixer_norm.bias",
    "att.receptance.weight": "mixer.receptance.weight",
    "att.key.weight": "mixer.key.weight",
    "att.value.weight": "mixer.value.weight",
    "att.output.weight": "mixer.output.weight",
    "att.ln_x.weight": "mixer.norm_weight",
    "att.ln_x.bias": "mixer.norm_bias",
    "ffn.key.weight": "channel_mixer.key.weight",
    "ffn.value.weight": "channel_mixer.value.weight",
}
BLOCK_OF = {
    "rwkv6": {
        "att.time_maa_x": "mixer.mu_x",
        "att.time_maa_w1": "mixer.shift_down",
        "att.time_maa_w2": "mixer.shift_up",
        "att.time_decay": "mixer.decay_base",
        "att.time_decay_w1": "mixer.decay_down",
        "att.time_decay_w2": "mixer.decay_up",
        "att.time_faaaa": "mixer.bonus",
        "att.gate.weight": "mixer.gate.weight",
        "ffn.time_maa_k": "channel_mixer.mu_k",
        "ffn.time_maa_r": "channel_mixer.mu_r",
        "ffn.receptance.weight": "channel_mixer.receptance.weight",
    },
    "rwkv7": {
        "att.w0": "mixer.decay.base",
        "att.w1": "mixer.decay.down",
        "att.w2": "mixer.decay.up",
        "att.a0": "mixer.rate.base",
        "att.a1": "mixer.rate.down",
        "att.a2": "mixer.rate.up",
        "att.v0": "mixer.value_gate.base",
        "att.v1": "mixer.value_gate.down",
        "att.v2": "mixer.value_gate.up",
        "att.g1": "mixer.gate.down",
        "att.g2": "mixer.gate.up",
        "att.k_k": "mixer.removal",
        "att.k_a": "mixer.replacement",
        "att.r_k": "mixer.bonus",
        "ffn.x_k": "channel_mixer.mu_k",
    },
}
STREAMS = {
    "rwkv6": [f"att.time_maa_{stream}" for stream in "wkvrg"],
    "rwkv7": [f"att.x_{stream}" for stream in "rwkvag"],
}
"""The five or six vectors of the authors' code that are the rows of our `mixer.mu`."""


@functools.cache
def golden(name: str) -> Golden:
    return load_file(Path(__file__).with_name(f"{name}.safetensors"))


@functools.cache
def our_weights(name: str) -> Golden:
    """Their weights under our names; every one of theirs is used, or this fails."""
    theirs = {k.removeprefix("weight."): x.double() for k, x in golden(name).items() if k.startswith("weight.")}
    ours = {mine: theirs.pop(their) for their, mine in OUTER.items()}
    for block in range(DIMENSIONS[name]["n_layers"]):
        prefix = f"blocks.{block}."
        ours[f"{prefix}mixer.mu"] = torch.stack([theirs.pop(prefix + s).flatten() for s in STREAMS[name]])
        for their, mine in (BLOCK | BLOCK_OF[name]).items():
            if prefix + their in theirs:
                ours[prefix + mine] = theirs.pop(prefix + their)
    assert not theirs
    return ours


def model(name: str, weights: Golden) -> LanguageModel:
    """Our model with these weights; each of our tensors must have a counterpart with as many elements."""
    architecture = ARCHITECTURES.get(name)
    given = {**architecture.tiny, **DIMENSIONS[name], "heads": "untied"}
    built = build_model(architecture, architecture.config.parse(given), 0).double().eval()
    shapes = {key: parameter.shape for key, parameter in built.state_dict().items()}
    built.load_state_dict({key: x.reshape(shapes[key]) for key, x in weights.items()})
    return built


@torch.no_grad()
@pytest.mark.parametrize("name", DIMENSIONS)
@pytest.mark.parametrize("execution", FORMS, ids=["loop", "chunked"])
def test_layers_and_logits_are_the_authors(name: str, execution: Execution) -> None:
    ours, expected = model(name, our_weights(name)), golden(name)
    ours.set_execution(execution)
    found: Golden = {}
    for index, block in enumerate(ours.sequence_blocks()):
        for layer, theirs in zip(block.layers(), ("att", "ffn"), strict=True):
            key = f"output.blocks.{index}.{theirs}"
            layer.register_forward_hook(lambda _module, _inputs, output, key=key: found.update({key: output[0]}))
    with recorded_forms() as forms:
        found["output.logits"] = ours(expected["ids"])
    assert list(forms.values()) == [{execution.form}]
    assert found.keys() == {key for key in expected if key.startswith("output.")}
    for key, y in found.items():
        assert float((y - expected[key]).abs().max() / expected[key].abs().max()) < TOLERANCE, key


@torch.no_grad()
@pytest.mark.parametrize("third", [0, 1, 2])
@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_tensor_matters(name: str, third: int) -> None:
    """Each tensor's elements are shuffled in turn: a misplaced tensor could not have passed the comparison above."""
    weights, ids, logits = our_weights(name), golden(name)["ids"][:1, :16], golden(name)["output.logits"][:1, :16]
    ours = model(name, weights)
    generator = torch.Generator().manual_seed(0)
    for key, parameter in list(ours.named_parameters())[third::3]:
        kept = parameter.clone()
        parameter.copy_(kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept))
        moved = float((ours(ids) - logits).abs().max() / logits.abs().max())
        parameter.copy_(kept)
        assert moved > MOVED, (key, moved)


def test_the_loop_of_rwkv6_is_that_of_flash_linear_attention() -> None:
    """Against that library's naive function, which has the axis of heads before that of tokens."""
    naive = pytest.importorskip("fla.ops.rwkv6.recurrent_naive").naive_recurrent_rwkv6
    generator = torch.Generator().manual_seed(0)
    r, k, v, log_decay = torch.randn(4, 2, 37, 3, 8, generator=generator).unbind()
    bonus, state = torch.randn(3, 8, generator=generator), torch.randn(2, 3, 8, 8, generator=generator)
    log_decay = -log_decay.exp()
    y, final = wkv6_loop(r, k, v, log_decay, bonus, state)
    parts = (x.transpose(1, 2) for x in (r, k, v, log_decay))
    expected, last = naive(*parts, bonus, scale=1.0, initial_state=state, output_final_state=True)
    torch.testing.assert_close(y, expected.transpose(1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final, last, rtol=1e-4, atol=1e-4)
