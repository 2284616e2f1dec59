"""`assay generate`: the text of the model, whole characters as they come, wrong requests in one line."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from assay.cli.main import main
from assay.generation import generate
from assay.hub.tensors import write_safetensors
from assay.model.architecture import ARCHITECTURES
from assay.study.subject.lookup import load_subject
from cli.command import Assay
from cli.test_verbs import last_line

SHORT = ["--max-tokens", "12"]

PLUGIN = """
import dataclasses, assay
from assay.model.architecture import ARCHITECTURES
assay.register(dataclasses.replace(ARCHITECTURES.get("gpt1"), name="mine"))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run of gpt1 with 64 positions on the made-up language."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = f"--corpus text:{corpus} --tokenizer bytes --context 32 --batch-tokens 256 --tokens 512 --out {folder}"
    sets = ("execution.threads=1", "evaluation.test_tokens=512", "d_model=64", "n_layers=1", "max_positions=64")
    assert main(["train", "gpt1", *options.split(), *(part for text in sets for part in ("--set", text))]) == 0
    return folder


@pytest.fixture
def run(assay: Assay, trained: Path) -> str:
    """A copy of the run in the working folder."""
    shutil.copytree(trained, assay.cwd / "run")
    return "run"


def expected(run: str, prompt: str, tokens: int) -> str:
    loaded = load_subject(run)
    assert loaded.tokenizer is not None
    made = generate(loaded.model, [loaded.prompt(prompt)], tokens, end=loaded.tokenizer.eos)
    return loaded.tokenizer.decode([step.token for step in made])


def test_one_prompt(assay: Assay, run: str) -> None:
    got = assay("generate", run, "--prompt", "abc de", *SHORT)
    assert got.status == 0
    assert got.out == expected(run, "abc de", 12) + "\n"
    assert re.fullmatch(r"12 tokens in [0-9.]+ s, [0-9,]+ tokens/s, greedy\n", got.err)
    for same in (["--greedy"], ["--temperature", "0"], ["--top-k", "1"], ["--top-p", "1e-9"]):
        assert assay("generate", run, "--prompt", "abc de", *SHORT, *same).out == got.out


def test_several_prompts_are_the_texts_of_each_alone(assay: Assay, run: str) -> None:
    prompts = ["abc de", "", "é"]
    options = [part for prompt in prompts for part in ("--prompt", prompt)]
    got = assay("generate", run, *options, *SHORT)
    assert got.out == "\n".join(f"{prompt}{expected(run, prompt, 12)}\n" for prompt in prompts)
    said = last_line(assay("generate", run, *options, *SHORT, "--json").out)
    assert got.err.startswith(f"{sum(len(text['ids']) for text in said['texts'])} tokens in ")
    assert [text["prompt"] for text in said["texts"]] == prompts
    assert [text["text"] for text in said["texts"]] == [expected(run, prompt, 12) for prompt in prompts]
    for text in said["texts"]:
        assert text["ended"] == ("max tokens" if len(text["ids"]) == 12 else "end of text")
    assert (said["architecture"], said["sampler"], said["subject"]) == ("gpt1", "greedy", "run")


def test_seeds_reproduce_and_differ(assay: Assay, run: str) -> None:
    def drawn(*options: str) -> str:
        got = assay("generate", run, "--prompt", "abc", *SHORT, *options)
        assert got.status == 0
        return got.out

    first = drawn("--temperature", "1.5", "--seed", "3")
    assert first == drawn("--temperature", "1.5", "--seed", "3")
    assert first != drawn("--temperature", "1.5", "--seed", "4")
    assert drawn("--top-k", "200") == drawn("--top-k", "200", "--temperature", "1", "--seed", "0")


def test_text_is_shown_as_it_comes_and_never_half_a_character(
    assay: Assay, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If tokens run out within the last character, it is shown as a replacement character."""
    ids = [*"aé🙂z".encode(), *"🙂".encode()[:2]]
    fed = iter(ids)
    monkeypatch.setattr("assay.generation._choose", lambda *_: [next(fed)])
    pieces: list[str] = []
    echo = typer.echo

    def watched(text: str = "", **how: Any) -> None:
        pieces.append(text)
        echo(text, **how)

    monkeypatch.setattr(typer, "echo", watched)
    got = assay("generate", run, "--prompt", "x", "--max-tokens", str(len(ids)))
    assert got.out == "aé🙂z\ufffd\n"
    assert [piece for piece in pieces if piece][:5] == ["a", "é", "🙂", "z", "\ufffd"]


def test_it_stops_at_the_end_of_the_text(assay: Assay, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = iter([104, 105, 257, 106])
    monkeypatch.setattr("assay.generation._choose", lambda *_: [next(fed)])
    got = assay("generate", run, "--prompt", "x", "--json")
    (text,) = last_line(got.out)["texts"]
    assert (text["text"], text["ids"], text["ended"]) == ("hi", [104, 105, 257], "end of text")
    assert got.err.startswith("3 tokens in ")


def test_in_a_terminal_the_prompt_is_dim_and_controls_are_pictures(
    assay: Assay, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, bool]] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("assay.generation._choose", lambda *_: [27])
    monkeypatch.setattr(typer, "echo", lambda text="", **_: shown.append((text, False)))
    monkeypatch.setattr(typer, "secho", lambda text, dim, **_: shown.append((text, dim)))
    assert assay("generate", run, "--prompt", "a\tb\x9b\n", "--max-tokens", "1").status == 0
    assert shown[:2] == [("a\tb\ufffd\n", True), ("\u241b", False)]


def test_as_many_as_fit_by_default(assay: Assay, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 positions hold BOS and 3 bytes and 60 more; the last token needs none."""
    monkeypatch.setattr("assay.generation._choose", lambda *_: [97])
    assert assay("generate", run, "--prompt", "abc").out == "a" * 61 + "\n"


def test_the_one_run_of_a_study(assay: Assay, run: str) -> None:
    shutil.copytree(run, "study/runs/gpt1-seed0")
    shutil.copy("run/config.yaml", "study/config.yaml")
    alone = assay("generate", run, "--prompt", "abc", *SHORT)
    assert assay("generate", "study", "--prompt", "abc", *SHORT).out == alone.out
    shutil.copytree(run, "study/runs/gpt1-seed1")
    got = assay("generate", "study", "--prompt", "abc")
    assert got.status == 2
    (line,) = got.lines
    assert line == "assay: study: holds 2 runs; give one of study/runs/gpt1-seed0, study/runs/gpt1-seed1"
    assert assay("generate", "study/runs/gpt1-seed1", "--prompt", "abc", *SHORT).out == alone.out


def test_a_plugin_is_needed_again(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file lies elsewhere, and no code in a run's folder is executed."""
    ARCHITECTURES.names()
    before = dict(ARCHITECTURES._items)
    monkeypatch.setattr(ARCHITECTURES, "_items", dict(before))
    Path("mine.py").write_text(PLUGIN)
    assert assay("train", "mine", "--plugin", "mine.py", *assay.small, "--out", "run").status == 0
    assert assay("generate", "run", "--prompt", "a", "--plugin", "mine.py", *SHORT).status == 0
    monkeypatch.setattr(ARCHITECTURES, "_items", before)
    got = assay("generate", "run", "--prompt", "a")
    assert (got.status, got.out) == (2, "")
    brings = f"--plugin {assay.cwd / 'mine.py'} brings it"
    assert got.lines == [f"assay: run: its architecture 'mine' is not known here; {brings}"]


def broken_weights(run: str) -> None:
    path = Path(run) / "checkpoint" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


WRONG = {
    "no prompt": ("{run}", "Missing option '--prompt'; `assay generate --help`"),
    "no subject": ("--prompt x", "Missing argument 'subject'"),
    "absent": ("absent --prompt x", "absent: no such folder; that of a run would do"),
    "another folder": (". --prompt x", r"\.: no config.yaml; the folder of a run would do"),
    "a name": ("gpt1 --prompt x", "gpt1: no such folder; that of a run would do"),
    "tokens": ("{run} --prompt x --max-tokens 0", "--max-tokens 0: a whole number above zero"),
    "negative tokens": ("{run} --prompt x --max-tokens -3", "--max-tokens -3: a whole number above zero"),
    "positions": (
        "{run} --prompt abc --max-tokens 62",
        "--max-tokens 62: the model has 64 learned positions and the longest prompt takes 4; at most 61 fit",
    ),
    "long prompt": ("{run} --prompt " + "x" * 64, "--prompt: 65 tokens given; the model has 64 learned positions"),
    "temperature": ("{run} --prompt x --temperature -1", "--temperature -1.0: a number from 0 .greedy. on"),
    "temperature NaN": ("{run} --prompt x --temperature nan", "--temperature nan: a number is needed"),
    "temperature in words": ("{run} --prompt x --temperature hot", "--temperature hot: a number is needed"),
    "top-k": ("{run} --prompt x --top-k 0", "--top-k 0: a whole number above zero"),
    "top-k squared": ("{run} --prompt x --top-k ²", "--top-k ²: a whole number above zero"),
    "top-p without end": ("{run} --prompt x --top-p " + "9" * 400, "--top-p 9+: a number is needed"),
    "top-p": ("{run} --prompt x --top-p 1.1", "--top-p 1.1: a probability above 0 and up to 1"),
    "seed": ("{run} --prompt x --top-k 2 --seed -1", "--seed -1: a whole number, zero or more"),
    "greedy draws": ("{run} --prompt x --greedy --top-p 0.9", "--greedy: draws nothing, so --top-p has no effect"),
    "plug-in": ("{run} --prompt x --plugin absent.py", "--plugin .*absent.py: no such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_one_line(case: str, assay: Assay, trained: Path) -> None:
    command, says = WRONG[case]
    got = assay("generate", *command.format(run=trained).split())
    assert (got.status, got.out) == (2, "")
    (line,) = got.lines
    assert re.match(f"assay: {says}", line), line


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (broken_weights, "not a whole safetensors file"),
        (lambda run: shutil.rmtree(f"{run}/checkpoint"), "run: no checkpoint yet"),
        (
            lambda run: Path(run, "tokenizer.json").unlink(),
            "run: has no tokenizer.json, so it reads and writes no text",
        ),
        (lambda run: Path(run, "config.yaml").write_text("arms: [gpt1, rwkv6]"), "a study without runs yet"),
        (lambda run: Path(run, "config.yaml").write_text("colour: red"), "run/config.yaml: unknown key 'colour'"),
    ],
)
def test_a_damaged_run_is_one_line(damage: object, says: str, assay: Assay, run: str) -> None:
    assert callable(damage)
    damage(run)
    got = assay("generate", run, "--prompt", "x")
    assert (got.status, got.out) == (2, "")
    (line,) = got.lines
    assert says in line


def test_a_run_that_diverged(assay: Assay, run: str) -> None:
    path = Path(run) / "checkpoint" / "model.safetensors"
    loaded = load_subject(run)
    loaded.model.get_parameter("norm.weight").data.fill_(torch.nan)
    write_safetensors(path, loaded.model.state_dict())
    got = assay("generate", run, "--prompt", "x")
    assert (got.status, got.out) == (2, "")
    assert got.lines == ["assay: the model's logits are not finite (did its training diverge?); another run would do"]


def test_a_checkpoint_laid_aside_is_found(assay: Assay, run: str) -> None:
    """Where a process died between the two renames that replace a checkpoint."""
    Path(run, "checkpoint").rename(Path(run, "checkpoint.old"))
    assert assay("generate", run, "--prompt", "abc", *SHORT).out == expected(run, "abc", 12) + "\n"
