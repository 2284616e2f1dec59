"""Runs and studies on a task: built in, or from a user's file."""

import json
from pathlib import Path

import pytest

from cli.command import Assay

TASK = '''
"""Says at every position what stood there in the token before: a task that a convolution solves."""
import math
import numpy as np
from assay.config import Config
from assay.data.batches import Batch
from assay.data.task import TASKS, Task


class Axes(Config):
    symbols: int = 8


def generate(axes, rows, context, generator):
    inputs = generator.integers(0, axes.symbols, size=(rows, context))
    targets = np.full((rows, context), -100)
    targets[:, 1:] = inputs[:, :-1]
    return Batch(inputs, targets)


TASKS.register("echo", Task(
    name="echo", summary="say the token before", citation="nobody's", axes=Axes, vocab_size=lambda axes: axes.symbols,
    shortest=lambda axes: 2, generate=generate, chance_nats=lambda axes: math.log(axes.symbols),
))
'''
SMALL = ["--context", "32", "--batch-tokens", "256", "--tokens", "512", "--set", "d_model=64", "--set", "n_layers=1"]
MORE = ["--set", "execution.threads=1", "--set", "evaluation.test_tokens=512"]


@pytest.fixture
def plugin(assay: Assay) -> str:
    (assay.cwd / "echo.py").write_text(TASK)
    return "echo.py"


def test_train_on_copying(assay: Assay) -> None:
    trained = assay("train", "gpt1", "--task", "copying:length=12", *SMALL, *MORE, "--out", "run", "--json")
    assert trained.status == 0, trained.err
    record = json.loads(trained.out.splitlines()[-1])
    assert record["status"] == "finished"
    assert record["spec"]["data"]["task"] == "copying:length=12"
    assert record["dimensions"]["vocab_size"] == 66
    assert not (assay.cwd / "run" / "tokenizer.json").exists()
    again = assay("train", "gpt1", "--task", "copying:length=12", *SMALL, *MORE, "--out", "run")
    assert again.status == 0
    other = assay("train", "gpt1", "--task", "copying:length=13", *SMALL, *MORE, "--out", "run")
    assert other.status == 2
    assert "data.task is copying:length=12 there and copying:length=13 now" in other.err
    said = assay("generate", "run", "--prompt", "x")
    assert said.status == 2
    assert "has no tokenizer.json" in said.err
    audited = assay("audit", "run", "--json")
    assert audited.status == 0, audited.err


def test_compare_on_a_task_from_a_file(assay: Assay, plugin: str) -> None:
    study = ["compare", "gpt1", "mamba2", "--task", "echo", "--plugin", plugin, "--seeds", "2", *SMALL, *MORE]
    done = assay(*study, "--out", "study", "--json")
    assert done.status == 0, done.err
    record = json.loads(done.out.splitlines()[-1])
    assert record["floors"].keys() == {"chance"}
    assert record["floors"]["chance"]["nats_per_token"] == pytest.approx(2.0794, abs=1e-4)
    assert record["corpus"]["task"] == "echo"
    assert record["chains_equal"]
    (run, *_) = sorted((assay.cwd / "study" / "runs").iterdir())
    spec = json.loads((run / "record.json").read_text())["spec"]
    assert spec["plugins"].keys() == {"echo.py"}, "an edited task is another run"
    assert "chance floor" in assay(*study, "--out", "study").out
    assert "echo" in assay("list", "tasks", "--plugin", plugin).out
    page = Path(assay.cwd / "study" / "report.html").read_text()
    assert "echo" in page
    Path(plugin).write_text(TASK.replace("inputs[:, :-1]", "inputs[:, 1:]"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "copyin"], "--task copyin: unknown task 'copyin': did you mean 'copying'?"),
        (["--task", "copying", "--corpus", "text:x"], "--corpus text:x: is about a text"),
        (["--task", "copying:length=20"], "--context 32: copying:length=20 needs at least 40 tokens"),
        (["--task", "copying", "--set", "vocab_size=5"], "--set vocab_size: 5 given, --task copying has 66"),
        (["--task", "copying", "--set", "training.order=sequential"], "training.order sequential"),
        (["--task", "copying", "--set", "evaluation.test_tokens=null"], "evaluation.test_tokens: copying has no end"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(assay: Assay, options: list[str], message: str) -> None:
    got = assay("train", "gpt1", *SMALL, *options)
    assert got.status == 2
    assert len(got.lines) == 1, got.err
    assert message in got.err
    assert assay.left() == []


def test_a_task_is_described(assay: Assay) -> None:
    facts = json.loads(assay("describe", "copying:length=5,symbols=8", "--json").out)
    assert facts["axes"] == {"symbols": 8, "length": 5}
    assert facts["chance_nats_per_target"] == pytest.approx(2.0794, abs=1e-4)
    shown = assay("describe", "copying")
    assert "by the context" in shown.out
    assert assay("describe", "copying:size=3").status == 2
