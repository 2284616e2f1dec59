"""`assay export` and `assay import`: a round trip gives the same model, and their messages."""

import json
import shutil
from pathlib import Path

import pytest

from assay.cli.main import main
from cli.command import Assay
from cli.test_verbs import last_line

PROMPT = ["--prompt", "abc de", "--max-tokens", "6"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run of gpt2 on the made-up language."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = f"--corpus text:{corpus} --tokenizer bytes --context 32 --batch-tokens 256 --tokens 512 --out {folder}"
    sets = ("execution.threads=1", "evaluation.test_tokens=512", "d_model=64", "n_layers=1", "n_heads=2")
    assert main(["train", "gpt2", *options.split(), *(part for text in sets for part in ("--set", text))]) == 0
    return folder


@pytest.fixture
def run(assay: Assay, trained: Path) -> str:
    """A copy of the run in the working folder."""
    shutil.copytree(trained, assay.cwd / "run")
    return "run"


def test_there_and_back_the_text_is_the_same(assay: Assay, run: str) -> None:
    before = assay("generate", run, *PROMPT).out
    done = assay("export", run, "--to", "theirs")
    assert done.status == 0
    assert "AutoModelForCausalLM.from_pretrained('theirs') loads it" in done.out
    assert "assay.hub" not in done.out
    done = assay("import", "hf:theirs", "--out", "ours")
    assert done.status == 0
    assert done.out.startswith("gpt2: ")
    for subject in ("ours", "hf:theirs"):
        assert assay("generate", subject, *PROMPT).out == before
    said = last_line(assay("export", "ours", "--to", "again", "--json").out)
    assert said == {"architecture": "gpt2", "model_type": "gpt2", "folder": "again"}
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert Path("again", name).read_bytes() == Path("theirs", name).read_bytes()


def test_an_import_has_a_folder_of_its_own_and_is_found_again(assay: Assay, run: str) -> None:
    assay("export", run, "--to", "theirs")
    said = last_line(assay("import", "hf:theirs", "--json").out)
    assert said["folder"] == f"runs/import-{said['digest'][:10]}"
    assert (said["source"], said["ends"], said["begins_with_bos"]) == ("hf:theirs", [256, 257], True)
    assert last_line(assay("import", "hf:theirs", "--json").out) == said
    assert len(list(Path("runs").iterdir())) == 1


def test_other_architectures_say_what_makes_them_known(assay: Assay) -> None:
    assert assay("train", "mamba2", *assay.small, "--body", "common", "--out", "run").status == 0
    assert "import assay.hub; transformers.AutoModelForCausalLM" in assay("export", "run", "--to", "theirs").out
    assert json.loads(Path("theirs/config.json").read_text())["model_type"] == "assay"
    assert assay("import", "hf:theirs", "--out", "ours").status == 0
    assert assay("generate", "ours", *PROMPT).out == assay("generate", "run", *PROMPT).out


def test_a_place_that_is_taken(assay: Assay, run: str) -> None:
    left = assay.left()
    got = assay("export", run, "--to", run)
    assert (got.status, got.out) == (2, "")
    assert got.lines == ["assay: --to run: holds files; give a new or an empty folder"]
    assay("export", run, "--to", "theirs")
    got = assay("import", "hf:theirs", "--out", run)
    assert (got.status, got.out) == (2, "")
    assert got.lines == ["assay: --out run: holds files; give a new or an empty folder"]
    assert [path for path in assay.left() if not path.startswith("theirs")] == left


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("import absent", "absent: hf:PATH of a folder or hf:NAME of a repository is needed"),
        ("import hf:./absent", "hf:./absent: no such folder; one with config.json"),
        ("import hf:{cwd}", "config.json: No such file or directory; a folder in Hugging Face's layout is needed"),
        ("import", "Missing argument 'source'; `assay import --help`"),
        ("export absent --to x", "absent: no such folder; that of a run would do"),
        ("export {cwd}", "Missing option '--to'; `assay export --help`"),
        ("export hf:{cwd} --to x", "config.json: No such file or directory"),
    ],
)
def test_a_wrong_request_is_one_line(command: str, says: str, assay: Assay) -> None:
    got = assay(*command.format(cwd=assay.cwd).split())
    assert (got.status, got.out, assay.left()) == (2, "", [])
    (line,) = got.lines
    assert says in line


def test_generate_in_a_folder_of_theirs_says_what_would_do(assay: Assay, run: str) -> None:
    assay("export", run, "--to", "theirs")
    got = assay("generate", "theirs", *PROMPT)
    assert got.lines == ["assay: theirs: is in Hugging Face's layout; hf:theirs would do"]


def test_without_a_tokenizer_there_is_no_text(assay: Assay, run: str) -> None:
    assay("export", run, "--to", "theirs")
    Path("theirs/tokenizer.json").unlink()
    done = assay("import", "hf:theirs", "--out", "ours")
    assert (done.status, "no tokenizer" in done.out) == (0, True)
    got = assay("generate", "ours", *PROMPT)
    assert got.lines == ["assay: ours: has no tokenizer.json, so it reads and writes no text"]
    assert assay("export", "ours", "--to", "again").status == 0
    assert not Path("again/tokenizer.json").exists()
