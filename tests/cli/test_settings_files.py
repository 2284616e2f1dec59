"""What is wrong in a file of settings names the file and the key, and no section of it is passed over."""

import re
from pathlib import Path

import pytest

from assay.errors import RequestError
from assay.study.asked import StudyConfig
from cli.command import Assay

WRONG = {
    "seeds: [0.5]": "seeds.0: 0.5 given, should be a valid integer",
    "arms: [gpt1, gpt9]": "arms.1: unknown architecture 'gpt9': did you mean",
    "arms: ['gpt1:size=x']": "arms.0: gpt1:size=x: size: 'x' given, should be a valid integer",
    "arms: [{architecture: gpt1, size: abc}]": "arms.0.size: 'abc' given, should be a valid integer",
    "arms: [{architecture: gpt1, trianing: {}}]": "arms.0: unknown key 'trianing': did you mean 'training'?",
    "arms: [{arch: gpt1}]": "arms.0.label: missing",
    "arms: [{architecture: gpt1, replicate: -1}]": "arms.0.replicate: -1 given",
    "arms: [{architecture: gpt1, training: {learning_rate: -1}}]": "arms: gpt1: learning_rate: -1 given",
    "arms: [{architecture: gpt1, model: {nheads: 1}}]": "arms: model.nheads: unknown key for gpt1; did you mean",
    "arms: [1]": "arms: 1 is no arm",
    "plugins: [1]": "plugins: 1 given, the path of a Python file is needed",
    "plan: {device: cpu}": "plan.precision: missing",
    "measurements: [nope]": "measurements nope: no measurement and no group of them",
    "data: stdlib": "data: 'stdlib' given, keys with values are needed, as in data: {...}",
    "training:": "training: None given, keys with values are needed",
    "model: [1]": "model: [1] given, keys with values are needed",
}


@pytest.mark.parametrize("content", WRONG)
def test_it_is_traced_to_the_file(content: str, assay: Assay) -> None:
    (assay.cwd / "c.yaml").write_text(content + "\n")
    got = assay("compare", *assay.small, "--config", "c.yaml", "--out", "study")
    assert got.status == 2
    assert re.search(f"^assay: --config c.yaml: {re.escape(WRONG[content])}", got.lines[-1]), got.err
    assert not (assay.cwd / "study").exists()


SET = {
    "size=": "--set size=: the value is missing; null would do where none is meant",
    "text_field=#x": "--set text_field=#x: .*what begins with # is left out by YAML; quotes would keep it",
    "seeds=[0.5]": "--set seeds: 0.5 given, should be a valid integer",
    "arms=gpt1": "--set arms: is not set that way; arms are arguments, as in",
    "plugins=a.py": "--set plugins: is not set that way; --plugin FILE gives one",
}


@pytest.mark.parametrize("text", SET)
def test_what_set_cannot_take_is_one_line(text: str, assay: Assay) -> None:
    got = assay("compare", "gpt1", *assay.small, "--set", text)
    assert (got.status, len(got.lines)) == (2, 1)
    assert re.search(f"^assay: {SET[text]}", got.err), got.err


def test_what_was_given_can_be_seen(assay: Assay) -> None:
    assert "--size ' ': a whole number" in assay("train", "gpt1", "--size", " ").err
    assert "--sizes 1,000: 000: a whole number" in assay("compare", "gpt1", "--sizes", "1,000").err
    assert "train: 2 arms and 1 seed were asked for" in assay("train", "gpt1", "--lr", "1e-3,1e-2").err


def test_the_settings_of_a_folder_are_named_by_their_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("arms: [gpt1]\nlooks: 3\n")
    with pytest.raises(RequestError, match=f"^{re.escape(str(path))}: unknown key 'looks'"):
        StudyConfig.read(path)
    path.write_text("arms: [gpt1]\nsize: 1M\nsizes: [1000000]\n")
    with pytest.raises(RequestError, match=f"^{re.escape(str(path))}: --size 1000000 and --sizes 1000000: give only"):
        StudyConfig.read(path)
