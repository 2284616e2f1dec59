"""`assay audit` on every kind of SUBJECT, and its messages for wrong ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cli.command import Assay

MODEL = '''
"""A stranger's language model: one attention layer, with or without its mask."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.qkv, self.causal = nn.Linear(16, 48), causal

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 4
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), float("-inf"))
        return x + scores.softmax(-1) @ v


class Model(nn.Module):
    def __init__(self, causal=True):
        super().__init__()
        self.table, self.mixer, self.head = nn.Embedding(23, 16), Attention(causal), nn.Linear(16, 23)

    def forward(self, ids):
        return self.head(self.mixer(self.table(ids)))
'''


def answer(assay: Assay, *arguments: str) -> tuple[int, dict[str, Any]]:
    said = assay("audit", *arguments, "--json")
    assert said.out, said.err
    return said.status, json.loads(said.out.splitlines()[-1])


def finding(report: dict[str, Any], check: str) -> dict[str, Any]:
    (found,) = [each for each in report["findings"] if each["check"] == check]
    return dict(found)


@pytest.fixture
def stranger(assay: Assay) -> Path:
    path = assay.cwd / "stranger.py"
    path.write_text(MODEL)
    return path


def test_a_sound_stranger_passes(assay: Assay, stranger: Path) -> None:
    status, report = answer(assay, str(stranger), "--max-length", "40")
    assert (status, report["sound"]) == (0, True)
    assert {each["status"] for each in report["findings"]} <= {"pass", "skip"}
    assert report["searched"]["longest"] == 40
    assert report["searched"]["vocab_size"] == 23


def test_only_the_lengths_given_are_used(assay: Assay, stranger: Path) -> None:
    stranger.write_text(
        MODEL.replace("        return self.head", "        assert ids.shape[1] in (12, 20)\n        return self.head")
    )
    said = assay("audit", str(stranger), "--lengths", "12,20")
    assert said.status == 0
    words = "sound (at T = 12, 20, both modes, float64) not looked at: scoring"
    assert words in " ".join(said.out.split())
    said = assay("audit", str(stranger), "--lengths", "12,21")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("assay: lengths: 21 given; Model raised AssertionError on that many tokens")


def test_a_strangers_leak_is_named(assay: Assay, stranger: Path) -> None:
    stranger.write_text(MODEL + "\n\ndef open_eyed():\n    return Model(causal=False)\n")
    status, report = answer(assay, f"{stranger}:open_eyed", "--max-length", "40")
    assert (status, report["sound"]) == (1, False)
    assert finding(report, "causality")["status"] == "fail"
    assert finding(report, "causality")["where"].startswith("mixer:")
    said = assay("audit", f"{stranger}:open_eyed", "--max-length", "40")
    assert said.status == 1
    assert "UNSOUND" in said.out
    assert "mixer: position" in said.out


def test_the_replica_cheats_and_has_a_sound_twin(assay: Assay) -> None:
    small = ["--set", "pattern=GGS", "--set", "d_model=16", "--set", "n_heads=1", "--set", "head_dim=16"]
    status, report = answer(assay, "groundthink-v7", *small, "--max-length", "23")
    assert (status, report["sound"], report["twin"]) == (1, False, "groundthink")
    causality = finding(report, "causality")
    assert {"blocks.1.mixer", "blocks.2.mixer"} <= set(causality["modules"])


def test_transformers_own_class_is_audited(assay: Assay) -> None:
    config = GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(assay.cwd / "hf")
    status, report = answer(assay, f"hf:{assay.cwd / 'hf'}", "--max-length", "33")
    assert (status, report["sound"], report["model"]) == (0, True, "GPT2LMHeadModel")
    assert finding(report, "parity")["status"] == "pass"


def test_a_study_is_audited_with_its_data_and_batches(assay: Assay) -> None:
    trained = assay("compare", "gpt1", "gpt2", *assay.small, "--set", "n_heads=4", "--seeds", "1", "--out", "study")
    assert trained.status == 0, trained.err
    status, report = answer(assay, "study", "--honest", "--max-length", "23")
    assert (status, report["sound"]) == (0, True)
    assert [Path(model["name"]).name[:11] for model in report["models"]] == ["gpt1-seed0-", "gpt2-seed0-"]
    assert {each["check"]: each["status"] for each in report["data"]} == {
        "contamination": "pass",
        "tokenizer": "pass",
        "chains": "pass",
    }
    for model in report["models"]:
        assert abs(model["honest"]["difference"]) < 1e-5


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gpt11",), "gpt11: no architecture, folder of a run, FILE.py or hf:PATH; did you mean 'gpt1'"),
        (("nothing.py",), "nothing.py: no such file"),
        (("stranger.py:nobody",), "stranger.py:nobody: the file has no nobody"),
        (("stranger.py", "--vocab-size", "1"), "vocab_size: 1 given"),
        (("stranger.py", "--vocab-size", "99"), "vocab_size: 99 given, the model has logits for 23 ids only"),
        (("stranger.py", "--max-length", "0"), "--max-length 0: a whole number above zero is needed"),
        (("stranger.py", "--honest"), ":Model was not trained here"),
        (("empty.py",), "empty.py: registers no architecture and holds no model"),
        (("many.py",), "many.py: holds A, B; give one of them, as in many.py:A"),
        (("raising.py",), "raising.py: line 6: ValueError: no ids today"),
        (("number.py",), "number.py:model: makes a int; a torch.nn.Module would do"),
        (("gpt1", "--set", "d_modell=3"), "--set d_modell: unknown key"),
        (("hf:nowhere/at/all",), "hf:nowhere/at/all: no such folder; one with config.json and model.safetensors"),
    ],
)
def test_a_wrong_request_is_one_line(assay: Assay, arguments: tuple[str, ...], says: str) -> None:
    files = {
        "empty.py": "x = 1\n",
        "many.py": "from torch import nn\n\n\nclass A(nn.Module):\n    pass\n\n\nclass B(nn.Module):\n    pass\n",
        "raising.py": "from torch import nn\n\n\nclass Model(nn.Module):\n    def __init__(self):\n"
        '        raise ValueError("no ids today")\n',
        "number.py": "def model():\n    return 3\n",
    }
    for name, text in files.items():
        (assay.cwd / name).write_text(text)
    said = assay("audit", *arguments)
    assert said.status == 2
    assert len(said.lines) == 1
    assert says in said.err


def test_a_model_that_raises_is_one_line(assay: Assay, stranger: Path) -> None:
    stranger.write_text(MODEL.replace("return self.head(", "raise KeyError('gone')\n        return self.head("))
    said = assay("audit", str(stranger))
    assert said.status == 2
    assert len(said.lines) == 1
    assert "KeyError" in said.err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("groundthink-v7", 1), ("groundthink", 0)])
def test_document_001_at_its_default_size(assay: Assay, name: str, status: int) -> None:
    got, report = answer(assay, name)
    assert (got, report["sound"]) == (status, not status)
    if status:
        causality = finding(report, "causality")
        assert {"blocks.1.mixer", "blocks.5.mixer"} <= set(causality["modules"])
        assert "final state" in causality["explanation"]
