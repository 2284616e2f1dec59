"""What every registered task must keep."""

import re
from pathlib import Path

import numpy as np
import pytest

from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.data.task import TASKS, TaskDataset, in_words
from assay.targets import IGNORED

CONTEXT = 64
PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
OF_WORDS = 512
"""Tokens that a task in words may need where every byte is one."""


@pytest.fixture(params=TASKS.names())
def dataset(request: pytest.FixtureRequest) -> TaskDataset:
    made = load_dataset(DataConfig(task=request.param), print)
    assert isinstance(made, TaskDataset)
    return made


def test_it_generates_what_it_says(dataset: TaskDataset) -> None:
    name = dataset.name
    context = OF_WORDS if in_words(name) else CONTEXT
    dataset.refuse(context, "shuffled", 4)
    batches = dataset.batches(context, 4, 0, "shuffled")
    batch, again = batches.batch(0), dataset.batches(context, 4, 0, "shuffled").batch(0)
    assert batch.scored > 0, f"1. {name} asks nothing"
    assert np.array_equal(batch.inputs, again.inputs), f"2. {name}: the same seed and step give another batch"
    assert np.array_equal(batch.targets, again.targets), f"2. {name}: the same seed and step give other targets"
    assert not np.array_equal(batch.inputs, batches.batch(1).inputs), f"3. {name}: every step gives the same batch"
    held_out = dataset.held_out("test", context, 4 * context)
    assert (held_out.targets != IGNORED).any(), f"4. {name}: its test set asks nothing"
    assert dataset.task.chance_nats(dataset.axes) > 0, f"5. {name}: a floor of no nats leaves nothing to learn"
    assert dataset.task.shortest(dataset.axes) <= context, f"6. {name}: its default axes do not fit {context} tokens"
    assert dataset.task.summary, f"7. {name}: `assay list` shows its summary"
    assert dataset.task.citation, f"8. {name}: says where it is from, or that it is nobody's"


def test_its_section_of_the_page_names_every_axis_and_how_it_can_mislead(dataset: TaskDataset) -> None:
    worded = in_words(dataset.name)
    page = (PAGE.with_name("conversations.md") if worded else PAGE).read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    section = sections[f"`{dataset.name}`"]
    assert "*How it can mislead.*" in section
    assert worded or "Floors: uniform" in " ".join(section.split())
    told = section + (sections["State tracking"] if "#state-tracking" in section else "")
    assert [axis for axis in dataset.task.axes.model_fields if not re.search(rf"`{axis}[`=]", told)] == []
    assert worded or dataset.task.questions is not None, "what can be had without memory"
