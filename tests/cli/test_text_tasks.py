"""Runs on tasks in words: alone, in a mixture with a text, and what is refused in a line."""

import json
from pathlib import Path

import pytest

from assay.evaluation.measurements import choices
from cli.command import Assay

SMALL = ["--context", "96", "--batch-tokens", "384", "--tokens", "768", "--set", "d_model=64", "--set", "n_layers=1"]
MORE = ["--set", "execution.threads=1", "--set", "evaluation.test_tokens=64", "--set", "validation_tokens=64"]
CORPUS = "a small text"
LITTLE = ["--set", "measurements=[likelihood,choices,mixed_text]"]


def test_a_mixture_logs_its_parts_apart(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "FEWEST", 16)
    monkeypatch.setattr(choices, "MOST", 16)
    text = f"text:{assay.corpus}"
    mixed = ["--task", "needle", "--corpus", text, "--tokenizer", "bpe:300", "--set", "data.mix=0.5"]
    done = assay("train", "gpt1", *mixed, *SMALL, *MORE, *LITTLE, "--out", "run", "--json")
    assert done.status == 0, done.err
    record = json.loads(done.out.splitlines()[-1])
    rows = [json.loads(line) for line in Path(assay.cwd / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["portions"].keys() for row in rows] == [{"text", "task"}] * 2
    curves = record["portion_curves"]
    assert [point["nats_per_token"] for point in curves["task"]] == [row["portions"]["task"] for row in rows]
    assert record["dimensions"]["vocab_size"] == 300
    measured = record["measurements"]
    assert measured["choices"]["uniform"] == pytest.approx(1 / 8)
    assert measured["mixed_text"]["bits_per_byte"] > 1
    assert record["corpus"]["mix"] == 0.5
    said = assay("generate", "run", "--prompt", "Sentence", "--max-tokens", "3")
    assert said.status == 0, said.err
    later = assay("measure", "run", "--only", "memory", "--json")
    assert later.status == 0, later.err
    (subject,) = json.loads(later.out.splitlines()[-1])["subjects"]
    assert {"answers", "choices"} <= {name for results in subject["results"].values() for name in results}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "needle:distractors=20"], "--context 96: needle:distractors=20 needs at least"),
        (["--task", "needle", "--corpus", "text:x"], "--corpus text:x: needle takes no text with --tokenizer bytes"),
        (
            ["--task", "needle", "--corpus", CORPUS, "--set", "data.mix=0.01"],
            "data.mix 0.01: a batch of 4 rows has 0 of the task",
        ),
        (["--task", "conversations"], "--context 96: conversations needs at least"),
        (["--task", "needle", "--set", "vocab_size=9"], "--set vocab_size: 9 given, the tokenizer has 258"),
        (["--set", "data.mix=0.5"], "data.mix 0.5: there is nothing to mix the text with"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(assay: Assay, options: list[str], message: str) -> None:
    got = assay("train", "gpt1", *SMALL, *(f"text:{assay.corpus}" if of == CORPUS else of for of in options))
    assert got.status == 2
    assert len(got.lines) == 1, got.err
    assert message in got.err
    assert assay.left() == []


def test_it_is_described(assay: Assay) -> None:
    facts = json.loads(assay("describe", "needle:kind=uuid", "--json").out)
    assert facts["axes"]["kind"] == "uuid"
    assert "those of --tokenizer" in assay("describe", "conversations").out
