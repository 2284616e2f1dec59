"""The command line in this process: a corpus, bad files, an empty working folder, and what a command said."""

from pathlib import Path

import pytest

from cli.command import Assay
from study.made_up import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("cli") / "corpus")


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that a user might give by mistake."""
    folder = tmp_path_factory.mktemp("bad")
    contents = {
        "empty.txt": b"",
        "binary.bin": bytes(range(256)) * 40,
        "latin.txt": "caf\xe9 ".encode("latin-1") * 2000,
        "broken.jsonl": b'{"text": "a b c"}\n{"text": \n',
        "fieldless.jsonl": b'{"body": "a b c"}\n',
        "short.txt": b"hello there\n\n" * 50,
        "notes.txt": b"mine",
        "unknown.yaml": b"training: {learning_rte: 0.1}\n",
        "nested.yaml": b"model: {gpt1: {n_head: 2}}\n",
        "list.yaml": b"- a\n- b\n",
        "broken.yaml": b"a: [1\n",
        "dotted.yaml": b"data.corpus: text:good.jsonl\n",
        "dotted2.yaml": b"rule: {looks.x: 3}\n",
        "deep.yaml": b"a: " + b"[" * 3000 + b"\n",
        "alias.yaml": b"a: &a [*a]\n",
        "laughs.yaml": b"a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 8)) for n in b"bcdefghij"),
        "tiny.yaml": b"size: 3\ndata: {tokenizer: bytes}\n",
        "seeds.yaml": b"seeds: 0\n",
        "wrong.yaml": b"training: {learning_rate: [1]}\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working folder of the test."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str], corpus: Path, cwd: Path) -> Assay:
    return Assay(capsys, corpus, cwd)
