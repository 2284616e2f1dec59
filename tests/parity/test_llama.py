"""Transformer++ against transformers' Llama, sliding-window against its Mistral, on redrawn weights."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from assay.audit.redraw import redrawn
from parity.agreement import TOLERANCE, build, difference, ids, least_sensitive

SHAPES: dict[str, dict[str, Any]] = {
    "small": {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 4, "intermediate_size": 88},
    "grouped": {"vocab_size": 50, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6,
                "num_key_value_heads": 2, "intermediate_size": 40},
}  # fmt: skip
WINDOW = 6
ROPE_BASE = 500.0


def our_weights(theirs: LlamaForCausalLM | MistralForCausalLM) -> dict[str, Tensor]:
    """Their weights under our names: queries, keys and values in one matrix."""
    given = theirs.state_dict()
    ours = {
        "embedding.tokens": given["model.embed_tokens.weight"],
        "norm.weight": given["model.norm.weight"],
        "untied_head": given["lm_head.weight"],
    }
    for layer in range(theirs.config.num_hidden_layers):
        block = {n.removeprefix(f"model.layers.{layer}."): t for n, t in given.items() if f"layers.{layer}." in n}
        mapped = {
            "mixer_norm.weight": block["input_layernorm.weight"],
            "mixer.qkv.weight": torch.cat([block[f"self_attn.{name}_proj.weight"] for name in "qkv"]),
            "mixer.output.weight": block["self_attn.o_proj.weight"],
            "channel_mixer_norm.weight": block["post_attention_layernorm.weight"],
            **{f"channel_mixer.{name}.weight": block[f"mlp.{name}_proj.weight"] for name in ("gate", "up", "down")},
        }
        ours |= {f"blocks.{layer}.{name}": tensor for name, tensor in mapped.items()}
    return ours


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["transformer++", "sliding-window"])
def test_logits_and_every_tensor_matters(name: str, shape: str) -> None:
    """A base of 500 in place of 10000 turns even the slowest pair visibly within a test's length."""
    options = {**SHAPES[shape], "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE}}
    dimensions: dict[str, object] = {"rope_base": ROPE_BASE, "heads": "untied"}
    if name == "transformer++":
        theirs = LlamaForCausalLM(LlamaConfig(**options, rms_norm_eps=1e-6)).eval()
    else:
        theirs = MistralForCausalLM(MistralConfig(**options, rms_norm_eps=1e-6, sliding_window=WINDOW)).eval()
        dimensions["window"] = WINDOW
    theirs = redrawn(theirs, torch.Generator().manual_seed(1))
    for our_key, key in (("vocab_size",) * 2, ("d_model", "hidden_size"), ("n_layers", "num_hidden_layers"),
                         ("n_heads", "num_attention_heads"), ("n_kv_heads", "num_key_value_heads"),
                         ("d_ff", "intermediate_size")):  # fmt: skip
        dimensions[our_key] = SHAPES[shape][key]
    ours = build(name, dimensions, our_weights(theirs))
    for tokens in (1, 13, 37, 101):
        assert difference(ours, theirs, ids(ours.vocab_size, tokens)) <= TOLERANCE
    least, tensor = least_sensitive(ours, theirs, ids(ours.vocab_size, 37))
    assert least > 100 * TOLERANCE, tensor
