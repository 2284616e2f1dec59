"""GPT-2 against transformers' GPT2LMHeadModel on redrawn weights, through the mapping that import and export use."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.hub.gpt2 import assay_to_gpt2, config_from_hf, config_to_hf, gpt2_to_assay
from parity.agreement import TOLERANCE, build, difference, ids, least_sensitive, parse

SHAPES: dict[str, dict[str, Any]] = {
    "small": {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "untied": {"vocab_size": 50, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 40,
               "tie_word_embeddings": False},
    "narrow": {"vocab_size": 97, "n_embd": 40, "n_layer": 1, "n_head": 8, "n_positions": 37, "n_inner": 56},
}  # fmt: skip


def theirs(shape: str) -> GPT2LMHeadModel:
    config = GPT2Config(**SHAPES[shape], bos_token_id=0, eos_token_id=0)
    model: GPT2LMHeadModel = redrawn(GPT2LMHeadModel(config).eval(), torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_every_tensor_matters(shape: str) -> None:
    reference = theirs(shape)
    ours = build("gpt2", config_from_hf(reference.config.to_dict()), gpt2_to_assay(reference.state_dict()))
    for tokens in (1, 13, 37):
        assert difference(ours, reference, ids(ours.vocab_size, tokens)) <= TOLERANCE
    least, name = least_sensitive(ours, reference, ids(ours.vocab_size, 37))
    assert least > 100 * TOLERANCE, name


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(shape: str) -> None:
    """Our weights and configuration in their layout load into their class and give our logits."""
    reference = theirs(shape)
    dimensions = config_from_hf(reference.config.to_dict())
    ours = build("gpt2", dimensions, gpt2_to_assay(reference.state_dict()))
    again = GPT2LMHeadModel(
        GPT2Config(**config_to_hf(parse("gpt2", dimensions), reference.config.tie_word_embeddings))
    ).eval()
    missing, unexpected = again.load_state_dict(assay_to_gpt2(ours.state_dict()), strict=False)
    assert (missing, unexpected) == ([] if again.config.tie_word_embeddings is False else ["lm_head.weight"], [])
    again.tie_weights()
    assert difference(ours, again, ids(ours.vocab_size, 29)) <= TOLERANCE
    assert config_from_hf(again.config.to_dict()) == dimensions


def test_published_checkpoints_have_no_prefix_and_carry_masks() -> None:
    reference = theirs("small")
    stored = {name.removeprefix("transformer."): tensor for name, tensor in reference.state_dict().items()}
    stored |= {"h.0.attn.bias": torch.ones(1, 1, 64, 64).tril(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    del stored["lm_head.weight"]
    mapped, expected = gpt2_to_assay(stored), gpt2_to_assay(reference.state_dict())
    assert mapped.keys() == expected.keys()
    assert all(torch.equal(mapped[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("activation_function", "gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("attn_pdrop", 0.3),
    ],
)
def test_what_we_do_not_have_is_refused_in_one_line(option: str, value: object) -> None:
    with pytest.raises(RequestError, match=f"config.json: .*{option}") as caught:
        config_from_hf({**GPT2Config().to_dict(), option: value})
    assert "\n" not in str(caught.value)


def test_foreign_tensors_are_refused() -> None:
    with pytest.raises(RequestError, match=r"'transformer.h.0.attn.rotary.weight' is none of GPT-2's"):
        gpt2_to_assay({"h.0.attn.rotary.weight": torch.zeros(2)})
    with pytest.raises(RequestError, match=r"'blocks.0.mixer.A_log' has no place in GPT-2"):
        assay_to_gpt2({"blocks.0.mixer.A_log": torch.zeros(2)})
    with pytest.raises(RequestError, match="body: 'common' given"):
        config_to_hf(parse("gpt2", {"body": "common"}), False)


def test_defaults_of_a_short_config_are_theirs() -> None:
    assert config_from_hf({"model_type": "gpt2"}) == config_from_hf(GPT2Config().to_dict())
