"""Every measurement keeps its contract on a tiny model: what it gives survives a file, and models do not move."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.data.text.elsewhere import TextWindows
from assay.evaluation import table
from assay.evaluation.inference.protocol import QUICK
from assay.evaluation.measurement import (
    MEASUREMENTS,
    NEEDED,
    AnyMeasurement,
    GivenArm,
    GivenStudy,
    Measurement,
    StudyMeasurement,
)
from assay.evaluation.measurements import choices, inference, speed
from assay.evaluation.measuring import measure_model
from assay.evaluation.results import as_result
from assay.model.architecture import ARCHITECTURES
from assay.records import Measured, MeasurementResult, Record
from assay.training.config import TrainingConfig
from evaluation.small import PLAN, given, tiny, windows
from oracles import BABBLE, task, worded

PAGE = Path(__file__).parents[2] / "docs" / "measurements.md"
NAMES = MEASUREMENTS.names()
SHORT = QUICK.model_copy(update={"prefill_tokens": 16, "contexts": [8, 16], "generated_tokens": 2})


def measured(item: AnyMeasurement, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Its values on a tiny model, or on two arms of a tiny study."""
    if isinstance(item, StudyMeasurement):
        monkeypatch.setattr(speed, "BURST_SECONDS", 0.001)
        if isinstance(item, inference.MeasureInference):
            monkeypatch.setattr(type(item), "protocol", SHORT)
        architecture = ARCHITECTURES.get("gpt1")
        config = architecture.config.parse(architecture.tiny)
        training = TrainingConfig.parse({"context": 8, "batch_tokens": 16, "tokens": 64})
        arms = [GivenArm(label, architecture, config, training) for label in ("a", "b")]
        values: Record = item.measure(GivenStudy(arms, PLAN, 0, lambda _: None))
        return values
    draw = np.random.default_rng(0)
    batch = windows([list(draw.integers(0, 61, 13)) for _ in range(6)], 12, [0, 0, 1, 2, 3, 4])
    model = tiny()
    model.train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    elsewhere = {"mine": lambda: TextWindows(batch, True, "", own=False)}
    of = given(model, batch, models={"initial": tiny, "trained": lambda: model}, elsewhere=elsewhere)
    if item.needs & {"task", "capacity"}:
        dataset = task("mqar:vocab=61,pairs=2")
        batch = dataset.held_out("test", 12, 24)
        texts = {"held_out": lambda: batch, "training": lambda: dataset.trained_on(12, 4, 0, 16)}
        of = given(model, batch, models=of.models, texts=texts, task=dataset)
    if item.needs & {"words", "mixture"}:
        monkeypatch.setattr(choices, "FEWEST", 8)
        monkeypatch.setattr(choices, "MOST", 8)
        words = worded("needle", **({"mix": 0.5, "corpus": BABBLE} if "mixture" in item.needs else {}))
        model = tiny(vocab_size=words.vocab_size, max_positions=96)
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        model.train()
        texts = {"held_out": lambda: words.held_out("test", 96, 20)}
        if words.mixed_with is not None:
            texts["mixed"] = lambda: words.text_held_out("test", 96, 300)
        of = given(model, batch, models={"trained": lambda: model}, texts=texts, task=words)
    first, again = (measure_model([item], of)[0] for _ in range(2))
    assert first == again, "the same model gives the same values"
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())
    return first


@pytest.mark.parametrize("name", NAMES)
def test_results_are_data_that_survives_a_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    item = MEASUREMENTS.get(name)
    values = measured(item, monkeypatch)
    assert isinstance(values, item.record)
    result = as_result(item, values, Measured(label="tiny", seed=0))
    result.write(tmp_path / "result.json")
    read = MeasurementResult.read(tmp_path / "result.json")
    assert read == result
    assert item.record.model_validate(read.values) == values
    keys = [(column.key, column.arm) for column in result.columns]
    assert keys
    assert len(set(keys)) == len(keys)
    for column in result.columns:
        assert not column.under or column.under in {key for key, _ in keys}
        assert (column.format == "text") == (column.text is not None) or column.text is column.value is None
        assert bool(column.arm) == (item.scope == "study")
    for figure in result.figures:
        assert {point.series for point in figure.points} <= set(figure.series or [""])


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_asks_and_needs(name: str) -> None:
    item = MEASUREMENTS.get(name)
    assert item.name == name
    assert item.question.endswith("?")
    assert item.version >= 1
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name), "it is the name of a file"
    if isinstance(item, Measurement):
        assert item.needs <= NEEDED.keys()
        assert item.unmet(item.needs) is None
        assert item.unmet(frozenset()) is not None


@pytest.mark.parametrize("name", NAMES)
def test_its_section_of_the_page_says_how_it_can_mislead(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## `{name}`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert "*Asks:*" in section
    assert "*How it can mislead.*" in section


def test_the_table_of_the_page_is_that_of_the_registry() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table.with_table(page) == page, "python -m assay.evaluation.table docs/measurements.md writes it"
