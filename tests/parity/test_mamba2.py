"""Mamba-2 against transformers' Mamba2ForCausalLM (torch path) on redrawn weights, through the mapping of the hub."""

from typing import Any

import pytest
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM

from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.hub.mamba2 import assay_to_mamba2, config_from_hf, config_to_hf, mamba2_to_assay
from parity.agreement import TOLERANCE, build, difference, ids, least_sensitive, parse

SHAPES: dict[str, dict[str, Any]] = {
    "one-group": {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16,
                  "state_size": 16, "n_groups": 1, "chunk_size": 16, "tie_word_embeddings": True},
    "untied": {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_heads": 6, "head_dim": 8,
               "state_size": 10, "n_groups": 1, "chunk_size": 8},
    "groups": {"vocab_size": 97, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 6, "expand": 3,
               "state_size": 7, "n_groups": 4, "conv_kernel": 3, "chunk_size": 32},
}  # fmt: skip


def theirs(shape: str) -> Mamba2ForCausalLM:
    config = Mamba2Config(**SHAPES[shape], bos_token_id=0, eos_token_id=0, pad_token_id=0)
    model: Mamba2ForCausalLM = redrawn(Mamba2ForCausalLM(config).eval(), torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_every_tensor_matters(shape: str) -> None:
    reference = theirs(shape)
    ours = build("mamba2", config_from_hf(reference.config.to_dict()), mamba2_to_assay(reference.state_dict()))
    for tokens in (1, 13, 37):
        assert difference(ours, reference, ids(ours.vocab_size, tokens)) <= TOLERANCE
    least, name = least_sensitive(ours, reference, ids(ours.vocab_size, 37))
    assert least > 100 * TOLERANCE, name


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(shape: str) -> None:
    """Our weights and configuration in their layout load into their class and give our logits."""
    reference = theirs(shape)
    dimensions = config_from_hf(reference.config.to_dict())
    ours = build("mamba2", dimensions, mamba2_to_assay(reference.state_dict()))
    again = Mamba2ForCausalLM(
        Mamba2Config(**config_to_hf(parse("mamba2", dimensions), reference.config.tie_word_embeddings))
    ).eval()
    missing, unexpected = again.load_state_dict(assay_to_mamba2(ours.state_dict()), strict=False)
    assert (missing, unexpected) == (["lm_head.weight"] if again.config.tie_word_embeddings else [], [])
    again.tie_weights()
    assert difference(ours, again, ids(ours.vocab_size, 29)) <= TOLERANCE
    assert config_from_hf(again.config.to_dict()) == dimensions


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hidden_act", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("use_bias", True),
        ("use_conv_bias", False),
        ("time_step_limit", [0.0, 0.1]),
        ("num_heads", 3),
    ],
)
def test_what_we_do_not_have_is_refused_in_one_line(option: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"config.json: {option}") as caught:
        config_from_hf({**Mamba2Config().to_dict(), option: value})
    assert "\n" not in str(caught.value)


def test_foreign_tensors_are_refused() -> None:
    with pytest.raises(RequestError, match=r"'backbone.layers.0.mixer.in_proj.bias' is none of Mamba-2's"):
        mamba2_to_assay({"backbone.layers.0.mixer.in_proj.bias": torch.zeros(2)})
    with pytest.raises(RequestError, match=r"'blocks.0.channel_mixer.up.weight' has no place in Mamba-2"):
        assay_to_mamba2({"blocks.0.channel_mixer.up.weight": torch.zeros(2)})
    for wrong in ({"body": "common"}, {"dropout": 0.1}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            config_to_hf(parse("mamba2", wrong), False)


def test_defaults_of_a_short_config_are_theirs() -> None:
    assert config_from_hf({"model_type": "mamba2"}) == config_from_hf(Mamba2Config().to_dict())
