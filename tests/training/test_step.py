"""One optimizer step: clipping, unchanged weights after a loss that is not finite, and what dropout masks depend on."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.batches import Batch
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.training.config import TrainingConfig
from assay.training.objective import Objective
from assay.training.optim import build_optimizer, learning_rate
from assay.training.step import MicroBatch, accumulate_gradients, clip_gradients, micro_batches, take_step

PLAN = ExecutionPlan(device="cpu", precision="float32", compile=False, op_form="chunked", chunk_length=64, threads=1)
CONFIG = TrainingConfig(tokens=320, batch_tokens=32, context=16)
IDS = np.arange(2 * 17).reshape(2, 17) * 7 % 61
BATCH = Batch(IDS[:, :-1], IDS[:, 1:])


def tiny(**dimensions: object) -> LanguageModel:
    architecture = ARCHITECTURES.get("gpt1")
    return build_model(architecture, architecture.config.parse({**architecture.tiny, **dimensions}), 0)


def parts(seed: int = 0, step: int = 0, replicate: int = 0) -> list[MicroBatch]:
    return micro_batches(BATCH, CONFIG, "cpu", seed, step, replicate)


def gradients(model: LanguageModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_clipping_bounds_the_gradients_and_reports_the_norm_before() -> None:
    model = tiny()
    accumulate_gradients(Objective(model, PLAN), parts(), BATCH.scored)
    before = gradients(model).clone()
    assert clip_gradients(model.parameters(), None) == pytest.approx(before.norm().item(), rel=1e-5)
    assert torch.equal(gradients(model), before), "nothing is scaled where no norm is given"
    assert before.norm() > 1e-2
    assert clip_gradients(model.parameters(), 1e-3) == pytest.approx(before.norm().item(), rel=1e-5)
    torch.testing.assert_close(gradients(model), before / before.norm() * 1e-3, rtol=1e-3, atol=0)


def test_a_step_moves_the_weights_at_the_rate_of_its_number_and_leaves_no_gradient() -> None:
    model = tiny()
    optimizer = build_optimizer(model, CONFIG)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    taken = take_step(Objective(model, PLAN), optimizer, parts(step=4), BATCH.scored, CONFIG, step=4)
    assert taken.finite
    assert taken.losses.nats == pytest.approx(math.log(61), abs=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [learning_rate(CONFIG, 4)] * 2
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_loss_moves_nothing(broken: float) -> None:
    model = tiny()
    optimizer = build_optimizer(model, CONFIG)
    with torch.no_grad():
        model.head_weight[3, 0] = broken
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not take_step(Objective(model, PLAN), optimizer, parts(), BATCH.scored, CONFIG, step=0).finite
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert all(p.grad is None for p in model.parameters())


def test_masks_depend_on_seed_step_and_replicate_and_on_nothing_else() -> None:
    model = tiny(dropout=0.2)

    def gradient(**numbers: int) -> bytes:
        model.zero_grad()
        accumulate_gradients(Objective(model, PLAN), parts(**numbers), BATCH.scored)
        assert model.embedding.tokens.grad is not None
        return model.embedding.tokens.grad.numpy().tobytes()

    first = gradient()
    torch.rand(3, generator=torch.default_generator)
    assert gradient() == gradient(replicate=0) == first
    others = [gradient(seed=1), gradient(step=1), gradient(replicate=1), gradient(replicate=2)]
    assert len({first, *others}) == 5


class Wrapper(nn.Module):
    """An objective in the hands of something else, as for many devices."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments: Tensor) -> object:
        return self.inner(*arguments)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_step_trains_whatever_mode_an_evaluation_left_the_model_in(wrapped: bool) -> None:
    model = tiny(dropout=0.5)
    objective = Objective(model, PLAN)
    losses = []
    for leave in (model.train, model.eval, model.blocks[0].eval):
        model.train()
        leave()
        losses.append(accumulate_gradients(Wrapper(objective) if wrapped else objective, parts(), BATCH.scored).nats)
        assert all(module.training for module in model.modules())
    assert losses[0] == losses[1] == losses[2]
