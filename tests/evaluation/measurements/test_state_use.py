"""Interventions find where planted models keep what they recall, and change nothing else."""

import re
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.data.worded.dataset import TextTaskDataset
from assay.evaluation.interventions import Site, change_of, changed, of_twin, paths_of
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements import state_use
from assay.evaluation.measurements.state_use import StateUse
from assay.evaluation.measuring import measure_model
from assay.model.lm import BlockState, ModelState
from assay.ops.attention_state import AttentionState, WindowState
from evaluation.small import given, tiny
from oracles import Oracle, task, worded

MQAR = "mqar:vocab=32,pairs=3,power=1"
CONTEXT = 24


class Shift(NamedTuple):
    shift: Tensor


class Memory(NamedTuple):
    memory: Tensor


class Planted(Oracle):
    """Keeps its context in one of three places; a second block carries other numbers that nothing reads."""

    def __init__(self, place: str) -> None:
        super().__init__(lambda inputs: inputs, 32)
        self.place = place

    def hidden(self, ids: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        if state is None:
            kept = ids.double()
            unread = torch.rand(len(ids), 5, generator=torch.Generator().manual_seed(1))
            kinds = {
                "state": Memory(kept),
                "window": Shift(kept),
                "cache": AttentionState(kept[:, :, None, None], kept[:, :, None, None], ids.shape[1]),
            }
            blocks = BlockState(kinds[self.place], ()), BlockState(Memory(unread), ())
            return torch.zeros(*ids.shape, 32), ModelState(ids.shape[1], blocks)
        mixer = state.blocks[0].mixer
        kept = mixer.keys[:, :, 0, 0] if self.place == "cache" else mixer[0]
        pairs = kept.round().long()
        match = ids[:, :, None] == pairs[:, None, 0::2]
        said = (match.long() * pairs[:, None, 1::2]).amax(dim=2).clamp(0, 31)
        return 20 * torch.nn.functional.one_hot(said, 32).float(), state


def measured(place: str) -> StateUse:
    item = MEASUREMENTS.get("state_use")
    dataset = task(MQAR)
    windows = dataset.held_out("test", CONTEXT, 900)
    values = measure_model([item], given(Planted(place), windows, task=dataset))[0]  # type: ignore[list-item]
    assert isinstance(values, StateUse)
    return values


@pytest.mark.parametrize("place", ["state", "window", "cache"])
def test_recall_is_found_where_it_was_planted(place: str) -> None:
    values = measured(place)
    assert (values.accuracy, values.sequences, values.answers) == (1.0, 300, 900)
    by = {(effect.path, effect.block, effect.kind): effect for effect in values.effects}
    swap = by["all", None, "swap"]
    assert swap.share is not None
    assert swap.share == pytest.approx((1 - swap.accuracy) / (1 - 1 / 3), abs=1e-9)
    assert swap.share > 0.9
    twin = by["all", None, "twin"]
    assert (twin.others, twin.accuracy) == (1.0, 0.0), "the answers of the other context, none of its own"
    assert by[place, None, "twin"].others == 1.0
    for path in {"state", "window", "cache"} - {place}:
        others = [effect for (of, _, _), effect in by.items() if of == path]
        assert all(effect.accuracy == 1.0 for effect in others), "nothing else matters"
    assert by["all", 0, "swap"].share == pytest.approx(swap.share, abs=0.05)
    assert by["all", 1, "swap"].accuracy == 1.0
    assert by["all", None, "zero"].points == 100.0


class Reader(Planted):
    """Keeps the text before the question, and says the colour that it gives the one who is asked about."""

    def __init__(self, dataset: TextTaskDataset) -> None:
        super().__init__("state")
        self.head_weight, self.words = torch.eye(dataset.vocab_size), dataset.words

    def hidden(self, ids: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        if state is None:
            return torch.zeros(*ids.shape, len(self.head_weight)), super().hidden(ids)[1]
        said = np.zeros(ids.shape, dtype=np.int64)
        for row, (kept, asked) in enumerate(zip(state.blocks[0].mixer[0], ids, strict=True)):
            text = self.words.tokenizer.decode(kept.round().long().clamp(0, 255).tolist())
            question, _, _ = self.words.tokenizer.decode(asked.tolist()).partition("?")
            colour = dict(re.findall(r"(\w+) has a (\w+)", text)).get(question.split()[-2], "?")
            answer, begin = self.words.ids(f" {colour}"), len(self.words.ids(question))
            said[row, begin : begin + len(answer)] = answer[: ids.shape[1] - begin]
        return 20 * torch.nn.functional.one_hot(torch.from_numpy(said), len(self.head_weight)).float(), state


def test_of_a_text_the_sequences_with_contexts_of_one_length_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of several bytes: right where all are, of its own text and of its twin's."""
    monkeypatch.setattr(state_use, "SEQUENCES", 96)
    monkeypatch.setattr(state_use, "DRAWN", 256)
    dataset = worded("needle:distractors=2,needles=2")
    windows = dataset.held_out("test", 160, 64)
    item = MEASUREMENTS.get("state_use")
    (values,) = measure_model([item], given(Reader(dataset), windows, task=dataset))  # type: ignore[list-item, arg-type]
    assert isinstance(values, StateUse)
    assert (values.accuracy, values.answers, values.sequences, values.left_out) == (1.0, 96, 96, 0)
    by = {(effect.path, effect.block, effect.kind): effect for effect in values.effects}
    twin = by["all", None, "twin"]
    assert (twin.others, twin.accuracy) == (1.0, 0.0)
    assert by["state", None, "swap"].accuracy < 0.2
    assert by["all", 1, "swap"].points == 0
    assert by["all", None, "zero"].points == 100


def test_nothing_is_said_of_a_model_that_does_not_recall() -> None:
    item = MEASUREMENTS.get("state_use")
    dataset = task("mqar:vocab=61,pairs=3,power=1")
    values = measure_model([item], given(tiny(), dataset.held_out("test", CONTEXT, 90), task=dataset))[0]  # type: ignore[list-item]
    assert isinstance(values, StateUse)
    assert values.effects == []
    assert "cannot be said" in item.sentences(values)[0]


@pytest.mark.parametrize("kind", ["zero", "mean", "resample", "swap", "noise"])
def test_changes_are_what_they_are_called(kind: str) -> None:
    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(5))
    state = ModelState(5, (BlockState(Memory(x), Shift(10 * x)), BlockState(Memory(-x), ())))
    after = changed(state, Site(), change_of(kind, torch.Generator().manual_seed(0)))  # type: ignore[arg-type]
    first, shift, second = (
        after.blocks[0].mixer.memory,
        after.blocks[0].channel_mixer.shift,
        after.blocks[1].mixer.memory,
    )
    if kind == "zero":
        assert not first.any()
    if kind == "mean":
        assert torch.equal(first, x.mean(0).expand(4, 3))
    if kind in ("swap", "resample"):
        rows = [x.tolist().index(row) for row in first.tolist()]
        assert sorted(rows) == [0, 1, 2, 3]
        assert all(row != index for index, row in enumerate(rows)), "no sequence keeps its own"
        assert torch.equal(shift, 10 * x[rows]), "one block's parts come from one sequence"
        if kind == "swap":
            assert torch.equal(second, -x[rows]), "so do all blocks"
    if kind == "noise":
        swap = changed(state, Site(), change_of("swap", torch.Generator().manual_seed(0))).blocks[0].mixer.memory
        assert torch.allclose((first - x).norm(dim=1), (swap - x).norm(dim=1))
        assert not torch.equal(first, swap)
    assert after.position == 5


def test_one_path_or_block_alone() -> None:
    x = torch.ones(2, 3)
    state = ModelState(1, (BlockState(Memory(x), Shift(x)), BlockState(WindowState(x, x, 1), ())))
    assert paths_of(state) == ["state", "window"]
    zero = change_of("zero", torch.Generator())
    only = changed(state, Site("state"), zero)
    assert not only.blocks[0].mixer.memory.any()
    assert only.blocks[0].channel_mixer.shift.all()
    assert only.blocks[1].mixer.keys.all()
    second = changed(state, Site(None, 1), zero)
    assert second.blocks[0].mixer.memory.all()
    assert not second.blocks[1].mixer.keys.any()
    assert second.blocks[1].mixer.length == 1
    assert not changed(state, Site("state"), of_twin, only).blocks[0].mixer.memory.any()


@pytest.mark.parametrize("name", ["gpt1", "rwkv6", "mamba2", "delta-net", "groundthink", "hybrid", "twin"])
def test_states_of_real_models_can_be_exchanged(name: str) -> None:
    """The state of another sequence, all of it, is what that sequence would have gone on with."""
    model = tiny(name).eval()
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 61, (4, 14)))
    with torch.no_grad():
        state = model.hidden(ids[:, :8])[1]
        swapped = changed(state, Site(), change_of("swap", torch.Generator().manual_seed(0)))
        order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
        other = torch.empty(4, dtype=torch.long)
        other[order] = order.roll(1)
        expected = model.hidden(torch.cat([ids[other, :8], ids[:, 8:]], dim=1))[0][:, 8:]
        got = model.hidden(ids[:, 8:], swapped)[0]
    assert torch.allclose(got, expected, atol=1e-4)
