"""The examples of CONTRIBUTING.md do what they say when they are loaded as plug-ins."""

import re
from pathlib import Path

import pytest
import torch

from assay.data.config import DataConfig
from assay.data.corpus import CORPORA
from assay.evaluation.measurement import MEASUREMENTS
from assay.model.architecture import ARCHITECTURES, build_model
from assay.plugins.loading import load_plugin
from assay.registry import Registry
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
    registries: list[Registry[object]] = [ARCHITECTURES, CORPORA, MEASUREMENTS]  # type: ignore[list-item]
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
