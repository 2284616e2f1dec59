"""The examples of CONTRIBUTING.md do what they say when they are loaded as plug-ins."""

import re
from pathlib import Path

import pytest
import torch

from assay.data.batches import IGNORED
from assay.data.config import DataConfig
from assay.data.corpus import CORPORA
from assay.data.dataset import load_dataset
from assay.data.task import TASKS
from assay.model.architecture import ARCHITECTURES, build_model
from assay.plugins.loading import load_plugin
from assay.registry import Registry

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
    registries: list[Registry[object]] = [ARCHITECTURES, CORPORA, TASKS]  # type: ignore[list-item]
    for registry in registries:
        registry.names()
        monkeypatch.setattr(registry, "_items", dict(registry._items))


def test_architecture_is_causal_and_steps_as_it_runs(tmp_path: Path) -> None:
    load_plugin(write_example("architecture", tmp_path))
    architecture = ARCHITECTURES.get("past_mean")
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0).double()
    ids = torch.randint(61, (2, 9), generator=torch.Generator().manual_seed(0))
    logits = model(ids)
    assert logits.shape == (2, 9, 61)
    _, state = model.prefill(ids[:, :4])
    for position in range(4, 9):
        step, state = model.step(ids[:, position], state)
        torch.testing.assert_close(step, logits[:, position], rtol=1e-9, atol=1e-12)
    later = ids.clone()
    later[:, 5:] = (later[:, 5:] + 1) % 61
    assert torch.equal(model(later)[:, :5], logits[:, :5])
    assert not torch.allclose(model(later)[:, 5:], logits[:, 5:])


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
