"""A user's texts in whole commands: what is shown of them, and that no training begins on other text."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from cli.command import Assay


def write_drawing_tokenizer(path: Path) -> Path:
    """A byte-level tokenizer.json with BPE-dropout."""
    letters = {letter: number for number, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    vocabulary = letters | {"th": 256, "er": 257}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [("t", "h"), ("e", "r")], dropout=0.3))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>"])
    inner.save(str(path))
    return path


def test_a_tokenizer_with_dropout_makes_the_same_corpus_again(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = write_drawing_tokenizer(assay.cwd / "tokenizer.json")
    words = assay.small
    words[words.index("bytes")] = str(tokenizer)
    command = ["train", "gpt1", *words, "--set", "n_heads=4", "--out"]
    digests = []
    for name in ("one", "two"):
        monkeypatch.setenv("ASSAY_CACHE", str(assay.cwd / f"cache-{name}"))
        done = assay(*command, name)
        assert done.status == 0, done.err
        assert [line for line in done.lines if "train 32 documents of " in line]
        digests.append(json.loads((assay.cwd / name / "record.json").read_bytes())["corpus_digest"])
    assert digests[0] == digests[1]


def test_other_text_is_refused_before_training_and_before_honest_scores(assay: Assay) -> None:
    words = [*assay.small]
    text = assay.cwd / "text"
    shutil.copytree(assay.corpus, text)
    words[words.index(f"text:{assay.corpus}")] = f"text:{text}"
    command = ["compare", "gpt1", *words, "--set", "n_heads=4", "--seeds"]
    done = assay(*command, "1", "--out", "study")
    assert done.status == 0, done.err
    file = next(path for path in sorted(text.rglob("*")) if path.is_file())
    file.write_text("quite another text, " * 40)
    config = assay.cwd / "study" / "config.yaml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("corpus_digest")]
    config.write_text("\n".join(lines) + "\n")
    runs = os.listdir(assay.cwd / "study" / "runs")
    again = assay(*command, "2", "--out", "study")
    assert again.status == 2
    assert f"--corpus text:{text}: reads as" in again.lines[-1]
    assert os.listdir(assay.cwd / "study" / "runs") == runs
    honest = assay("audit", f"study/runs/{runs[0]}", "--honest", "--max-length", "23")
    assert honest.status == 2
    assert f"--corpus text:{text}: reads as" in honest.lines[-1]
