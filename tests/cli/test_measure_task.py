"""`assay measure SUBJECT --task`: trained runs and models from elsewhere on a task that they were not trained on."""

import json

import pytest

from assay.evaluation.measurements import choices
from cli.command import Assay

SMALL = ["--context", "96", "--batch-tokens", "192", "--tokens", "192", "--set", "d_model=32", "--set", "n_layers=1"]
MORE = ["--set", "execution.threads=1", "--set", "evaluation.test_tokens=64", "--set", "validation_tokens=64"]
ONCE = ["--set", "measurements=[likelihood]"]


@pytest.fixture
def trained(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> Assay:
    """Folders: `run`, trained on needles through bytes, `exported`, the same, and `ids`, trained on copying."""
    monkeypatch.setattr(choices, "FEWEST", 16)
    monkeypatch.setattr(choices, "MOST", 16)
    assert assay("train", "gpt1", "--task", "needle:distractors=0", *SMALL, *MORE, *ONCE, "--out", "run").status == 0
    assert assay("train", "gpt1", "--task", "mqar:vocab=32", *SMALL, *MORE, *ONCE, "--out", "ids").status == 0
    assert assay("export", "run", "--to", "exported").status == 0
    return assay


def test_models_are_measured_on_tasks_that_they_were_not_trained_on(trained: Assay) -> None:
    before = trained.left()
    of = {}
    for subject, only in (("run", "answers,choices"), ("hf:exported", "choices")):
        asked = ["--task", "needle:distractors=1", "--context", "96", "--only", only]
        said = trained("measure", subject, *asked, "--json")
        assert said.status == 0, said.err
        (one,) = json.loads(said.out.splitlines()[-1])["subjects"]
        ((_, results),) = one["results"].items()
        if "answers" in results:
            assert results["answers"]["values"]["training_accuracy"] is None, "it was not trained on these"
        of[subject] = results["choices"]["values"]
    assert of["run"] == of["hf:exported"]
    ids = trained("measure", "ids", "--task", "mqar:vocab=32,pairs=2", "--only", "answers")
    assert ids.status == 0, ids.err
    assert "answers right" in ids.out
    assert trained.left() == before, "nothing is stored"
    wrong = {
        ("run", "nope"): "--task nope: unknown task",
        ("run", "needle:distractors=20"): "--context 96: needle:distractors=20 needs at least",
        ("run", "mqar"): "--task mqar: its ids stand for no text, and run reads text; a task in words",
        ("ids", "needle"): "ids: has no tokenizer.json, so it reads and writes no text",
        ("ids", "mqar:vocab=64"): "--task mqar:vocab=64: has 64 ids, ids 32; a task of as many would do",
        ("ids", "mqar:vocab=32,pairs=90"): "pairs=90: vocab=32 has 15 keys",
        ("hf:exported", "conversations"): "--context 256: conversations needs at least",
    }
    for (subject, task), message in wrong.items():
        said = trained("measure", subject, "--task", task)
        assert (said.status, said.out) == (2, "")
        assert len(said.lines) == 1, said.err
        assert message in said.err
    assert "has 512 positions" in trained("measure", "run", "--task", "needle", "--context", "600").err
