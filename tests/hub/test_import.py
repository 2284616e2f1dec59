"""What transformers wrote is read whole or refused in one line, and nothing is left half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Mamba2Config, Mamba2ForCausalLM

from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.hub.import_ import ImportRecord, read_model, write_model
from assay.study.subject.run import load_run
from hub.models import ids, make

ENDS = {"bos_token_id": 0, "eos_token_id": 0}
GPT2: dict[str, Any] = {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **ENDS}
MAMBA2: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "num_heads": 4,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "state_size": 16,
    "n_groups": 2,
    "pad_token_id": 0,
    **ENDS,
}
THEIRS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "gpt2 untied": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, tie_word_embeddings=False)),
    "mamba2": lambda: Mamba2ForCausalLM(Mamba2Config(**MAMBA2)),
}


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("case", THEIRS)
@torch.no_grad()
def test_what_transformers_saved_gives_its_logits(case: str, shards: bool, tmp_path: Path) -> None:
    theirs = redrawn(THEIRS[case]().eval(), torch.Generator().manual_seed(1))
    theirs.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    imported = read_model(f"hf:{tmp_path}")
    expected = theirs(ids(37)).logits
    assert (imported.model(ids(37)) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert imported.tokenizer is None
    assert imported.record.ends is None


@torch.no_grad()
def test_half_precision_is_read_into_float32(tmp_path: Path) -> None:
    theirs = redrawn(THEIRS["gpt2"]().eval(), torch.Generator().manual_seed(1)).bfloat16()
    theirs.save_pretrained(tmp_path)
    model = read_model(f"hf:{tmp_path}").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.get_parameter("norm.weight"), theirs.transformer.ln_f.weight.float())


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder of gpt2 in their layout."""
    make("gpt2", heads="tied").export(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize("name", ["gpt2", "mamba2", "rwkv6"])
def test_there_and_back_again(name: str, tmp_path: Path) -> None:
    """Export, import, and the folder of the import are the same model, bit for bit, and the same text."""
    made = make(name)
    made.export(tmp_path / "theirs")
    imported = read_model(f"hf:{tmp_path / 'theirs'}")
    write_model(imported, tmp_path / "ours")
    loaded = load_run(tmp_path / "ours")
    weights = made.model.state_dict()
    for model in (imported.model, loaded.model):
        assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
        assert not model.training
    assert (loaded.architecture.name, loaded.config) == (name, made.config)
    assert loaded.prompt("né") == [made.tokenizer.bos, *made.tokenizer.encode("né")]
    assert loaded.prompt("") == [made.tokenizer.bos]


def test_a_tokenizer_without_bos_stays_without(exported: Path) -> None:
    make("gpt2").tokenizer.save(exported / "tokenizer.json")
    assert not read_model(f"hf:{exported}").record.begins_with_bos
    options = json.loads((exported / "tokenizer_config.json").read_text())
    (exported / "tokenizer_config.json").write_text(json.dumps({**options, "add_bos_token": True}))
    assert read_model(f"hf:{exported}").record.begins_with_bos
    objects = {"bos_token": {"content": "<|eos|>"}, "eos_token": "<|bos|>"}
    (exported / "tokenizer_config.json").write_text(json.dumps(objects))
    assert read_model(f"hf:{exported}").record.ends == (257, 256)


def test_the_same_import_twice_is_left_and_another_refused(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_model(read_model(f"hf:{exported}"), out)
    before = (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    write_model(read_model(f"hf:{exported}"), out)
    assert (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint", "import.json", "tokenizer.json"]
    make("mamba2").export(tmp_path / "other")
    with pytest.raises(RequestError, match=r"--out .*: holds files; give a new or an empty folder"):
        write_model(read_model(f"hf:{tmp_path / 'other'}"), out)
    assert ImportRecord.read(out / "import.json").architecture == "gpt2"


# What cannot be read


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_tensors(folder: Path, act: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    act(tensors)
    save_file(tensors, folder / "model.safetensors")


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_index(folder: Path, **names: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": {**dict.fromkeys(tensors, "part.safetensors"), **names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def in_turn(folder: Path, *damages: Callable[[Path], object]) -> None:
    for damage in damages:
        damage(folder)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BIAS = "transformer.h.1.mlp.c_fc.bias"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: No such file"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "config.json: holds a list; an object"),
    "another model": (
        lambda f: change(f / "config.json", model_type="llama"),
        "model_type 'llama' given; gpt2, mamba2, assay can be imported",
    ),
    "another activation": (
        lambda f: change(f / "config.json", activation_function="relu"),
        "activation_function is 'relu'",
    ),
    "heads": (lambda f: change(f / "config.json", n_head=5), "n_heads"),
    "an architecture of ours that is not here": (
        lambda f: change(f / "config.json", model_type="assay", architecture="mine"),
        "architecture 'mine' is not known here; --plugin FILE.py",
    ),
    "no dimensions of ours": (
        lambda f: change(f / "config.json", model_type="assay", architecture="gpt1"),
        "dimensions are missing",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors and no model.safetensors.index"),
    "a pickle": (as_pickle, "pytorch_model.bin is a pickle, which can run code"),
    "weights cut off": (cut, "model.safetensors: not a whole safetensors file"),
    "a tensor missing": (
        lambda f: change_tensors(f, lambda t: t.pop(BIAS)),
        "misses the tensor .*channel_mixer.up.bias",
    ),
    "a tensor too many": (
        lambda f: change_tensors(f, lambda t: t.update({"transformer.h.7.ln_1.bias": torch.zeros(32)})),
        "has, and the model has not, the tensor blocks.7.mixer_norm.bias",
    ),
    "an unknown tensor": (
        lambda f: change_tensors(f, lambda t: t.update(adapter=torch.zeros(2))),
        "tensor 'transformer.adapter' is none of GPT-2's",
    ),
    "a tensor of another shape": (
        lambda f: change_tensors(f, lambda t: t.update({BIAS: torch.zeros(3)})),
        r"is \[3\], the model's is \[128\]",
    ),
    "quantised": (
        lambda f: change_tensors(f, lambda t: t.update({BIAS: t[BIAS].to(torch.int8)})),
        "is torch.int8; weights that are not quantised",
    ),
    "a head that is not the table": (
        lambda f: change_tensors(f, lambda t: t.update({"lm_head.weight": torch.ones(258, 32)})),
        "head differs from its token table",
    ),
    "an index without names": (
        lambda f: in_turn(f, as_pickle, lambda f: (f / "model.safetensors.index.json").write_text("{}")),
        "no weight_map",
    ),
    "an index that lacks a part": (
        lambda f: with_index(f, more="absent.safetensors"),
        "absent.safetensors: no such file",
    ),
    "an index that points elsewhere": (
        lambda f: with_index(f, more="../x.safetensors"),
        "names ../x.safetensors; parts lie beside it",
    ),
    "an index that promises more": (
        lambda f: with_index(f, more="part.safetensors"),
        "index and parts differ about the tensor more in part.safetensors",
    ),
    "a tokenizer of another model": (
        lambda f: in_turn(
            f,
            lambda f: change(f / "config.json", vocab_size=200),
            lambda f: change_tensors(f, lambda t: t.update({"transformer.wte.weight": torch.ones(200, 32)})),
        ),
        "tokenizer.json: has 258 tokens, the model 200",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line(case: str, exported: Path) -> None:
    damage, says = DAMAGE[case]
    damage(exported)
    with pytest.raises(RequestError, match=says) as caught:
        read_model(f"hf:{exported}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_copy_of_the_table_as_head_is_left_out(exported: Path) -> None:
    change_tensors(exported, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    assert read_model(f"hf:{exported}").config.heads == "tied"


def test_a_disk_that_fails_leaves_nothing(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    imported = read_model(f"hf:{exported}")
    monkeypatch.setattr("assay.hub.import_.write_safetensors", full)
    with pytest.raises(OSError, match="No space"):
        write_model(imported, exported.parent / "a" / "b")
    assert [path.name for path in exported.parent.iterdir()] == ["theirs"]


# Where it comes from


def test_a_name_that_is_no_folder_is_downloaded(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in allow_patterns)
        if name == "someone/absent":
            raise ConnectionError("no\nnetwork")
        return str(exported)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(exported.parent)
    assert read_model("hf:theirs").record.source == "hf:theirs"
    assert asked == []
    assert read_model("hf:someone/model").record.source == "hf:someone/model"
    assert asked == ["someone/model"]
    with pytest.raises(RequestError, match=r"no repository that can be read \(ConnectionError\)") as caught:
        read_model("hf:someone/absent")
    assert len(str(caught.value).splitlines()) == 1
    for path in ("hf:./absent", "hf:/absent/x", "hf:a/b/c", "hf:theirs/config.json"):
        with pytest.raises(RequestError, match=r"no such folder; one with config\.json"):
            read_model(path)
    for path in ("theirs", "hf:"):
        with pytest.raises(RequestError, match="hf:PATH of a folder or hf:NAME") as caught:
            read_model(path)
        assert str(caught.value).endswith("; hf:theirs would do" if path == "theirs" else "is needed")
    assert asked == ["someone/model", "someone/absent"]


def test_the_digest_is_of_all_that_is_read(exported: Path, tmp_path: Path) -> None:
    first = read_model(f"hf:{exported}").record.digest
    shutil.copytree(exported, tmp_path / "copy")
    assert read_model(f"hf:{tmp_path / 'copy'}").record.digest == first
    change(tmp_path / "copy" / "tokenizer_config.json", note=1)
    assert read_model(f"hf:{tmp_path / 'copy'}").record.digest != first
