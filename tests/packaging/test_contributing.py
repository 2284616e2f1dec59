"""The examples of CONTRIBUTING.md do what they say when they are loaded as plug-ins."""

import re
from pathlib import Path

import pytest
import torch

from assay.audit.contract.architecture import CHECKS
from assay.data.config import DataConfig
from assay.data.corpus import CORPORA
from assay.data.dataset import load_dataset
from assay.data.task import TASKS
from assay.evaluation.measurement import MEASUREMENTS
from assay.model.architecture import ARCHITECTURES
from assay.model.contract import check_contract
from assay.plugins.loading import load_plugin
from assay.registry import Registry
from assay.targets import IGNORED
from evaluation.small import measured, tiny, windows

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def write_example(name: str, folder: Path) -> Path:
    """The example called `name` as a file in `folder`."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    (source,) = re.findall(rf"^<!-- example: {name} -->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = folder / f"{name}.py"
    path.write_text(source)
    return path


@pytest.fixture(autouse=True)
def _registries_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    registries: list[Registry[object]] = [ARCHITECTURES, CORPORA, TASKS, MEASUREMENTS]  # type: ignore[list-item]
    for registry in registries:
        registry.names()
        monkeypatch.setattr(registry, "_items", dict(registry._items))


def test_architecture_keeps_what_assay_check_asks(tmp_path: Path) -> None:
    load_plugin(write_example("architecture", tmp_path))
    architecture = ARCHITECTURES.get("past_mean")
    check_contract(architecture)
    found = [check(architecture) for check in CHECKS]
    assert {finding.check: finding.explanation for finding in found if finding.status in ("fail", "warn")} == {}
    assert [finding.check for finding in found if finding.status == "skip"] == ["forms"]


def test_corpus_yields_its_documents_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = load_plugin(write_example("corpus", tmp_path))
    monkeypatch.setattr(plugin, "FOLDER", tmp_path / "texts")
    plugin.FOLDER.mkdir()
    for name in ("b", "a"):
        (plugin.FOLDER / name).write_text(f"text of {name}")
    documents = CORPORA.get("licences").documents(DataConfig(corpus="licences"), "")
    assert [(document.name, document.text) for document in documents] == [("a", "text of a"), ("b", "text of b")]


def test_task_asks_what_it_says(tmp_path: Path) -> None:
    load_plugin(write_example("task", tmp_path))
    dataset = load_dataset(DataConfig(task="majority:length=5"), print)
    dataset.refuse(8, "shuffled", 100)
    inputs, targets = dataset.batches(8, 40, 0, "shuffled").batch(0)
    assert targets[:, 5].tolist() == [int(sum(row) > 2) for row in inputs[:, :5].tolist()]
    assert (targets != IGNORED).sum() == 40
    assert set(targets[:, 5].tolist()) == {0, 1}


def test_measurement_counts_first_choices(tmp_path: Path) -> None:
    plugin = load_plugin(write_example("measurement", tmp_path))
    model, rows = tiny(), [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3], [5, 5, 5, 5, 5]]
    batch = windows(rows, 8, [0, 1, 2])
    got = measured("accuracy", model, batch)
    right = [(model(torch.tensor([row[:-1]]))[0].argmax(-1) == torch.tensor(row[1:])).tolist() for row in rows]
    assert got.targets == 14
    assert got.share == pytest.approx(sum(map(sum, right)) / 14)
    assert got.most_frequent == 5 / 14
    item = MEASUREMENTS.get("accuracy")
    assert item.columns(got)[0].floor == got.most_frequent
    assert len(item.figures(got)[0].points) == len(got.by_quarter) == 4
    sure = plugin.Accuracy(share=1.0, by_quarter=[1.0], targets=1, most_frequent=0.5)
    assert [item.sentences(sure), len(item.sentences(sure.model_copy(update={"share": 0.1})))] == [[], 1]
