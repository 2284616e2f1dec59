"""Mixtures of a task and a text: whose rows are whose, what they weigh, and that nothing else is changed."""

import numpy as np
import pytest
import torch

from assay.data.batches import PackedWindows
from assay.data.mixing import MixedBatches, portions_of
from assay.errors import RequestError
from assay.targets import IGNORED
from assay.training.config import TrainingConfig
from assay.training.objective import Objective
from assay.training.step import accumulate_gradients, micro_batches, shares_of
from evaluation.small import PLAN, tiny
from oracles import BABBLE, worded

CONTEXT, ROWS = 96, 8


def mixture(share: float, **more: object) -> MixedBatches:
    batches = worded("needle", corpus=BABBLE, mix=share, **more).batches(CONTEXT, ROWS, 0, "shuffled", 10)
    assert isinstance(batches, MixedBatches)
    return batches


def test_rows_are_windows_of_the_text_and_then_sequences_of_the_task() -> None:
    dataset = worded("needle", corpus=BABBLE, mix=0.25)
    batch = mixture(0.25).batch(3)
    corpus = dataset.mixed_with
    assert corpus is not None
    alone = PackedWindows(corpus.train.ids, CONTEXT, 6, 0).batch(3)
    of_task = worded("needle").batches(CONTEXT, 2, 0, "shuffled", 10).batch(3)
    assert np.array_equal(batch.inputs, np.concatenate([alone.inputs, of_task.inputs]))
    assert np.array_equal(batch.targets, np.concatenate([alone.targets, of_task.targets]))
    assert (batch.targets[:6] != IGNORED).all()
    assert [(portion.name, portion.rows) for portion in portions_of(mixture(0.25))] == [("text", 6), ("task", 2)]
    assert portions_of(worded("needle").batches(CONTEXT, 2, 0, "shuffled")) == ()


@pytest.mark.parametrize(("weight", "micro"), [(None, 3), (0.5, 8), (0.9, 3)])
def test_the_loss_of_a_mixture_is_that_of_its_parts(weight: float | None, micro: int) -> None:
    batches = mixture(0.25, task_weight=weight)
    batch, portions = batches.batch(0), portions_of(batches)
    config = TrainingConfig.parse(
        {"context": CONTEXT, "batch_tokens": CONTEXT * 24, "micro_batch_tokens": CONTEXT * micro, "tokens": 9999}
    )
    model = tiny(vocab_size=258, max_positions=CONTEXT)
    parts = micro_batches(batch, config, "cpu", 0, 0, portions=portions)
    losses = accumulate_gradients(Objective(model, PLAN), parts, batch.scored, shares_of(batch, config, portions))
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    text, task = (
        torch.nn.functional.cross_entropy(
            model(torch.from_numpy(batch.inputs[rows])).flatten(0, 1),
            torch.from_numpy(batch.targets[rows]).flatten(),
            ignore_index=IGNORED,
        )
        for rows in (slice(0, 6), slice(6, 8))
    )
    scored = (batch.targets != IGNORED).sum(axis=1)
    share = scored[6:].sum() / scored.sum() if weight is None else weight
    whole = (1 - share) * text + share * task
    whole.backward()
    assert losses.portions == pytest.approx({"text": text.item(), "task": task.item()}, rel=1e-4)
    assert losses.nats == pytest.approx(whole.item(), rel=1e-4)
    assert losses.auxiliary == {}
    expected = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("share", "rows"), [(0.01, 0), (0.99, 8)])
def test_a_batch_that_holds_only_one_of_them_is_refused(share: float, rows: int) -> None:
    with pytest.raises(RequestError, match=rf"data.mix {share}: a batch of 8 rows has {rows} of the task"):
        worded("needle", corpus=BABBLE, mix=share).refuse(CONTEXT, "shuffled", 100, ROWS)
