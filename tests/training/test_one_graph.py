"""Every architecture's objective, draws and auxiliary losses too, is one compiled graph and gives what eager gives."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from assay.audit.redraw import redrawn
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.plan import ExecutionPlan
from assay.ops.execution import Execution
from assay.ops.token_shift import mixtures, shift_difference
from assay.targets import IGNORED
from assay.training.objective import Objective

PLAN = ExecutionPlan(device="cpu", precision="float32", compile=False, op_form="chunked", chunk_length=16, threads=1)


class Step(torch.nn.Module):
    """The objective of an architecture that drops, with its auxiliary losses added: inputs, targets, seed -> a loss."""

    def __init__(self, name: str, execution: Execution, precision: str, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        architecture = ARCHITECTURES.get(name)
        model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.1}), 1)
        model = redrawn(model, torch.Generator().manual_seed(2)).train()
        model.set_execution(execution)
        self.objective = Objective(model, PLAN.model_copy(update={"precision": precision}))

    def forward(self, inputs: Tensor, targets: Tensor, seed: Tensor) -> Tensor:
        nats, scored, auxiliary = self.objective(inputs, targets, seed)
        return nats / scored + sum(auxiliary.values())

    def batch(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        vocab_size = self.objective.model.vocab_size
        inputs, targets = torch.randint(vocab_size, (2, 2, self.tokens), generator=generator)
        targets[:, 3:4] = IGNORED
        return inputs, targets, torch.tensor(seed)


def composed_token_shift(x: Tensor, last: Tensor | None, shares: Tensor) -> Tensor:
    return mixtures(x, shift_difference(x, last), shares[:, None, None])


def composed_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.nn.functional.rms_norm(x.to(wide), weight.shape, weight.to(wide), eps).to(x.dtype)


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before, no shapes checked by beartype, which no graph holds, norms and shifts as in a graph.

    They alone have a gradient by hand in eager that graphs have not; tests/ops holds it to torch's or to the formula's.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for layers in ("basic", "delta_net", "rwkv7"):
        monkeypatch.setattr(f"assay.layers.{layers}.rms_norm", composed_rms_norm)
    for rwkv in ("rwkv6", "rwkv7"):
        monkeypatch.setattr(f"assay.layers.{rwkv}.token_shift", composed_token_shift)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def loss_and_gradients(step: torch.nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    step.zero_grad()
    loss = step(*batch)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


def assert_one_graph(
    name: str, execution: Execution, backend: str, tolerance: float, tokens: int = 19, precision: str = "float32"
) -> None:
    """One graph, looked at once, whatever batch and seed; loss and gradients within `tolerance` of their largest."""
    step = Step(name, execution, precision, tokens)
    expected = [loss_and_gradients(step, step.batch(seed)) for seed in (3, 4)]
    step.compile(fullgraph=True, backend=backend)
    for seed, wanted in zip((3, 4), expected, strict=True):
        found = loss_and_gradients(step, step.batch(seed))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert (found[key] - value).abs().max() <= tolerance * value.abs().max(), key
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["aot_autograd"]["ok"] == (backend != "eager")


SOON = ("gpt1", "transformer++", "rwkv6", "mamba2", "gated-delta-net")
"""Every kind of operation; the others are slow."""
NAMES = [pytest.param(name, marks=[] if name in SOON else [pytest.mark.slow]) for name in ARCHITECTURES.names()]
CHUNKED = Execution("chunked", 16)


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_is_one_graph(name: str) -> None:
    assert_one_graph(name, CHUNKED, "eager", 0.0)


def backwards() -> Iterator[object]:
    """(name, execution, tokens, precision) of the tests that compile the backward too, which takes longer."""
    for name in ARCHITECTURES.names():
        soon = name == "gpt1"
        yield pytest.param(name, CHUNKED, 19, "float32", marks=[] if soon else [pytest.mark.slow])
    yield "gated-delta-net", CHUNKED, 9, "float32"  # less than a chunk
    yield "mamba2", CHUNKED, 19, "bfloat16"
    for name in ("delta-net", "rwkv6", "sliding-window", "transformer++"):
        for execution, tokens, precision in ((Execution("loop"), 4, "float32"), (CHUNKED, 19, "bfloat16")):
            yield pytest.param(name, execution, tokens, precision, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "execution", "tokens", "precision"), list(backwards()))
def test_forward_and_backward_are_one_graph(name: str, execution: Execution, tokens: int, precision: str) -> None:
    assert_one_graph(name, execution, "aot_eager", 0.0, tokens, precision)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 5, 16, 17, 40])
@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_any_length(name: str, tokens: int) -> None:
    """Less than a chunk, exactly one, one more, and several."""
    assert_one_graph(name, CHUNKED, "aot_eager", 0.0, tokens)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what inductor itself imports
@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_inductor(name: str) -> None:
    assert_one_graph(name, CHUNKED, "inductor", 1e-4)
