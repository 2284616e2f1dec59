"""The objective: what it sums, what it draws, and one step of it in two processes as in one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from assay.data.batches import Batch, PackedWindows
from assay.data.config import DataConfig
from assay.data.dataset import load_dataset
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.targets import IGNORED
from assay.training.config import TrainingConfig
from assay.training.objective import Objective
from assay.training.optim import build_optimizer
from assay.training.step import accumulate_gradients, micro_batches, take_step

PLAN = ExecutionPlan(device="cpu", precision="float32", compile=False, op_form="chunked", chunk_length=16, threads=1)
CONFIG = TrainingConfig(tokens=320, batch_tokens=64, micro_batch_tokens=32, context=16)


def tiny(name: str, **dimensions: object) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    return build_model(architecture, architecture.config.parse({**architecture.tiny, **dimensions}), 0)


def some(rows: int = 3, tokens: int = 11) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randint(0, 61, (rows, tokens), generator=generator) for _ in range(2))
    targets[0, :5] = IGNORED
    targets[2] = IGNORED
    return inputs, targets


def test_it_sums_the_nats_of_scored_targets_alone() -> None:
    model = tiny("transformer++")
    inputs, targets = some()
    outcome = Objective(model, PLAN)(inputs, targets, 0)
    expected = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    torch.testing.assert_close(outcome.nats, expected)
    assert outcome.scored == 6 + 11
    assert outcome.auxiliary == {}


def test_the_mean_of_a_sparse_batch_is_over_its_scored_targets_whatever_the_parts() -> None:
    """A part without a target adds nothing, and no part weighs more than its targets."""
    inputs, targets = some(4)
    targets[1, 3:] = IGNORED
    batch = Batch(inputs.numpy(), targets.numpy())
    gradients, means = [], []
    for micro in (None, 11):
        config = TrainingConfig(tokens=44, batch_tokens=44, micro_batch_tokens=micro, context=11)
        model = tiny("transformer++")
        means.append(
            accumulate_gradients(Objective(model, PLAN), micro_batches(batch, config, "cpu", 0, 0), batch.scored)
        )
        gradients.append([p.grad for p in model.parameters()])
    logits = tiny("transformer++")(inputs)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED).item()
    assert [mean.nats for mean in means] == pytest.approx([expected, expected], rel=1e-6)
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-7)


def test_a_seed_decides_every_draw() -> None:
    objective = Objective(tiny("gpt2", dropout=0.3), PLAN).train()
    inputs, targets = some()
    nats = [objective(inputs, targets, seed).nats.item() for seed in (7, 8, 7)]
    assert nats[0] == nats[2] != nats[1]
    assert objective(inputs, targets, torch.tensor(7)).nats.item() == nats[0]
    once, again = (objective.model(inputs) for _ in range(2))
    assert not torch.equal(once, again), "outside of it no seed is left behind"


def test_auxiliary_losses_are_returned() -> None:
    inputs, targets = some()
    objective = Objective(tiny("twin", fusion="arbiter-mingru"), PLAN)
    outcome = objective.train()(inputs, targets, 0)
    assert outcome.auxiliary.keys() == {"diversity", "arbiter"}
    assert all(value.requires_grad and value.ndim == 0 for value in outcome.auxiliary.values())
    assert objective.eval()(inputs, targets, 0).auxiliary == {}


def test_auxiliary_losses_are_means_over_tokens_however_a_batch_is_split() -> None:
    """They concern all tokens, not those alone that are scored: a part without a target counts like any other."""
    inputs, targets = some(4)
    batch = Batch(inputs.numpy(), targets.numpy())
    gradients = []
    for micro in (None, 11):
        config = TrainingConfig(tokens=44, batch_tokens=44, micro_batch_tokens=micro, context=11)
        model = tiny("twin", fusion="gated", diversity_weight=5.0)
        parts = micro_batches(batch, config, "cpu", 0, 0)
        accumulate_gradients(Objective(model, PLAN), parts, batch.scored)
        gradients.append([p.grad for p in model.parameters()])
    for whole, in_parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-4, atol=1e-6)


def batch_of(task: str) -> Batch:
    if task == "text":
        ids = (torch.arange(500) * 7 % 61).numpy().astype("uint16")
        return PackedWindows(ids, 16, 4, seed=0).batch(0)
    return load_dataset(DataConfig(task=task), print).batches(16, 4, 0, "shuffled").batch(0)


def step_in_one_process(name: str, data: str) -> dict[str, Tensor]:
    """The weights after one step of two micro-batches."""
    torch.set_num_threads(1)
    model = tiny(name, dropout=0.1)
    batch = batch_of(data)
    parts = micro_batches(batch, CONFIG, "cpu", seed=0, step=0)
    take_step(Objective(model, PLAN), build_optimizer(model, CONFIG), parts, batch.scored, CONFIG, step=0)
    return model.state_dict()


def step_in_a_process_of_two(rank: int, folder: str, names: list[tuple[str, str]]) -> None:
    """One of the two processes: it takes its micro-batch of the same batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, data in names:
        model = tiny(name, dropout=0.1)
        batch = batch_of(data)
        parts = micro_batches(batch, CONFIG, "cpu", seed=0, step=0)[rank::2]
        wrapped: nn.Module = DistributedDataParallel(Objective(model, PLAN))
        take_step(wrapped, build_optimizer(model, CONFIG), parts, batch.scored / 2, CONFIG, step=0)
        save_file(model.state_dict(), f"{folder}/{name}-{data}-{rank}.safetensors")
    distributed.destroy_process_group()


def test_a_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Bit for bit: half of a batch each, gradients averaged between processes, masks drawn from each part's seed."""
    names = [("gpt1", "text"), ("rwkv6", "text"), ("twin", "text"), ("transformer++", "copying:length=5,symbols=16")]
    torch.multiprocessing.spawn(step_in_a_process_of_two, (str(tmp_path), names), nprocs=2)
    for name, data in names:
        alone = step_in_one_process(name, data)
        for rank in range(2):
            together = load_file(tmp_path / f"{name}-{data}-{rank}.safetensors")
            assert together.keys() == alone.keys()
            for key, value in alone.items():
                assert torch.equal(together[key], value), (name, data, rank, key)
    assert all(not torch.equal(value, tiny(name, dropout=0.1).state_dict()[key]) for key, value in alone.items())
