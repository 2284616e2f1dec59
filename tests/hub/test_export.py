"""An exported model loads in transformers and is the same model; its tokenizer the same tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import assay.hub  # noqa: F401  (registers with transformers)
from assay.errors import RequestError
from assay.generation import generate
from assay.hub import export
from hub.models import ids, make

CASES: dict[str, tuple[str, dict[str, object], str]] = {
    "gpt2": ("gpt2", {}, "GPT2LMHeadModel"),
    "gpt2 untied": ("gpt2", {"heads": "untied", "d_ff": 48}, "GPT2LMHeadModel"),
    "gpt2ish": ("gpt2ish-test", {}, "GPT2LMHeadModel"),
    "mamba2": ("mamba2", {}, "Mamba2ForCausalLM"),
    "mamba2 with groups": ("mamba2", {"n_groups": 2, "heads": "untied"}, "Mamba2ForCausalLM"),
    "rwkv6": ("rwkv6", {}, "AssayForCausalLM"),
    "gpt2 in the common body": ("gpt2", {"body": "common"}, "AssayForCausalLM"),
    "mamba2 with dropout": ("mamba2", {"dropout": 0.1}, "AssayForCausalLM"),
    "groundthink with markers": ("groundthink", {"marker_ids": [3, 65], "key_bank": True}, "AssayForCausalLM"),
}
"""What is built, and the class that it is in transformers."""


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_in_transformers_are_ours(case: str, tmp_path: Path) -> None:
    name, dimensions, kind = CASES[case]
    made = make(name, **dimensions)
    made.export(tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == kind
    tokens = ids(37)
    ours, got = made.model(tokens), theirs(tokens).logits
    assert (got - ours).abs().max() <= 1e-4 * ours.abs().max()
    assert kind != "AssayForCausalLM" or torch.equal(got, ours)


@pytest.mark.parametrize("name", ["gpt2", "mamba2", "rwkv6"])
def test_their_greedy_generation_is_ours(name: str, tmp_path: Path) -> None:
    made = make(name)
    made.export(tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    prompt = ids(9, rows=1)
    ours = [step.token for step in generate(made.model, prompt.tolist(), 12, end=made.tokenizer.eos)]
    for options in ({}, {"use_cache": False}, {"use_cache": True}):
        got = theirs.generate(prompt, max_new_tokens=12, do_sample=False, **options)
        assert got[0, 9:].tolist() == ours, options


@pytest.mark.parametrize("name", ["gpt2", "rwkv6"])
def test_their_tokenizer_is_ours(name: str, tmp_path: Path) -> None:
    """BOS first, as every document of a run begins; a special token that a text spells is text."""
    made = make(name)
    made.export(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = " naïve <|eos|> 🙂\n <|bos|>"
    assert theirs(text).input_ids == [made.tokenizer.bos, *made.tokenizer.encode(text)]
    assert theirs.decode(theirs(text).input_ids, skip_special_tokens=True) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (made.tokenizer.bos, made.tokenizer.eos)


def test_loss_padding_and_tuples(tmp_path: Path) -> None:
    made = make("gpt1")
    made.export(tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens, mask = ids(11), torch.ones(2, 11, dtype=torch.long)
    mask[1, 8:] = 0
    labels = tokens.masked_fill(mask == 0, -100)
    expected = F.cross_entropy(made.model(tokens)[:, :-1][labels[:, 1:] >= 0], labels[:, 1:][labels[:, 1:] >= 0])
    output = theirs(tokens, attention_mask=mask, labels=labels)
    torch.testing.assert_close(output.loss, expected)
    loss, logits = theirs(tokens, labels=labels, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)
    with pytest.raises(ValueError, match="pad on the right"):
        theirs(tokens, attention_mask=mask.flip(1))
    with pytest.raises(TypeError):
        theirs(tokens, inputs_embeds=logits)


def test_a_new_model_from_the_configuration_is_initialised(tmp_path: Path) -> None:
    make("groundthink", marker_ids=[3, 65]).export(tmp_path / "out")
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "out"))
    assert model(ids(5)).logits.isfinite().all()
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(again(ids(5)).logits, model.eval()(ids(5)).logits)


def test_files(tmp_path: Path) -> None:
    """A folder that exists is filled if it is empty; parents are made."""
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert make("gpt2").export(folder) == "gpt2"
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        ]  # fmt: skip
    config = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert config["eos_token_id"] == 257


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_place_that_is_taken_is_left_alone(there: str, tmp_path: Path) -> None:
    place = tmp_path / "mine" if there == "file" else tmp_path
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RequestError, match=r"--to .*; give a new or an empty folder"):
        make("gpt2").export(place)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(export, "_write_json", full)
    with pytest.raises(OSError, match="No space"):
        make("gpt2").export(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
