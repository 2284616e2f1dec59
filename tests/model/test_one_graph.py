"""Every architecture's training step, with its loss, is one compiled graph that gives what eager gives."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from assay.audit.redraw import redrawn
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.ops.cross_entropy import IGNORED, summed_nats
from assay.ops.execution import Execution

UNDRAWN = {"dropout": 0.0, "local_drop": 0.0, "path_drop": 0.0, "arbiter_weight": 0.0, "diversity_weight": 0.0}
"""Draws and auxiliary losses are told to a model from outside the graph; here there are none."""


class Step(torch.nn.Module):
    """ids, targets -> summed nats; counts how often the compiler has looked at it."""

    def __init__(self, name: str, execution: Execution, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        architecture = ARCHITECTURES.get(name)
        undrawn = {key: value for key, value in UNDRAWN.items() if key in architecture.config.model_fields}
        model = build_model(architecture, architecture.config.parse({**architecture.tiny, **undrawn}), 1)
        self.model: LanguageModel = redrawn(model, torch.Generator().manual_seed(2)).train()
        self.model.set_execution(execution)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        hidden, _ = self.model.hidden(ids)
        return summed_nats(hidden.flatten(0, 1), self.model.head_weight, targets.flatten())

    def batch(self, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        ids, targets = torch.randint(self.model.vocab_size, (2, 2, self.tokens), generator=generator)
        targets[:, 3] = IGNORED
        return ids, targets


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before, and no shapes checked by beartype, which no graph can hold."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def loss_and_gradients(step: torch.nn.Module, batch: tuple[Tensor, Tensor], autocast: bool) -> dict[str, Tensor]:
    step.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = step(*batch)
    loss.backward()
    return {
        "loss": loss.detach(),
        **{name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None},
    }


def assert_one_graph(
    name: str, execution: Execution, backend: str, tolerance: float, tokens: int = 19, autocast: bool = False
) -> None:
    """One graph, looked at once, whatever the batch; loss and gradients within `tolerance` of the largest of each."""
    step = Step(name, execution, tokens)
    expected = [loss_and_gradients(step, step.batch(seed), autocast) for seed in (3, 4)]
    step.compile(fullgraph=True, backend=backend)
    for seed, wanted in zip((3, 4), expected, strict=True):
        found = loss_and_gradients(step, step.batch(seed), autocast)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert (found[key] - value).abs().max() <= tolerance * value.abs().max(), key
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["aot_autograd"]["ok"] == 1


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_chunked_forms(name: str) -> None:
    assert_one_graph(name, Execution("chunked", 16), "aot_eager", 0.0)


@pytest.mark.parametrize("name", ["delta-net", "rwkv6", "sliding-window"])
def test_loops(name: str) -> None:
    assert_one_graph(name, Execution("loop"), "aot_eager", 0.0, tokens=6)


@pytest.mark.parametrize("name", ["rwkv6", "transformer++"])
def test_autocast(name: str) -> None:
    assert_one_graph(name, Execution("chunked", 16), "aot_eager", 0.0, autocast=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what inductor itself imports
@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_inductor(name: str) -> None:
    assert_one_graph(name, Execution("chunked", 16), "inductor", 1e-4)
