"""A pair of functions is one function in eager and one node of a graph, with the same numbers."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.flop_counter import FlopCounterMode

from assay.ops.opaque import Differentiable, shapes_only


def _forward(x: Tensor, w: Tensor, times: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """x w times a number, and x itself, which also is an output; branches on what x holds."""
    product = x @ w * times
    if not shapes_only(x) and x.sum() > 100:
        product += 1
    return (product, x), (w.mT,)


def _gradient(gradients: tuple[Tensor, ...], saved: tuple[Tensor, ...], times: int) -> tuple[Tensor, ...]:
    (dy, dx), (x, wt) = gradients, saved
    return dy @ wt * times + dx, x.mT @ dy * times


scaled_product = Differentiable("test_scaled_product", _forward, _gradient, outputs=2, keeps=(0,), option="int")


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operands(shift: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(4, 4, generator=generator) for _ in range(2))
    return (x + shift).requires_grad_(), w.requires_grad_()


def loss(x: Tensor, w: Tensor) -> Tensor:
    y, again = scaled_product(x, w, option=(3,))
    return y.square().sum() + again.sin().sum()


@pytest.mark.parametrize("shift", [0.0, 10.0])
def test_the_gradient_is_that_of_the_written_function(shift: float) -> None:
    x, w = operands(shift)
    added = float(x.sum() > 100)
    expected = torch.autograd.grad((x @ w * 3 + added).square().sum() + x.sin().sum(), (x, w))
    torch.testing.assert_close(torch.autograd.grad(loss(x, w), (x, w)), expected)


def test_a_graph_holds_it_as_one_node_with_the_same_numbers() -> None:
    """What shares memory in eager is copied; the branch is taken as the values say, without another look."""
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for shift in (0.0, 10.0):
        x, w = operands(shift)
        expected = loss(x, w), *torch.autograd.grad(loss(x, w), (x, w))
        found = compiled(x, w)
        assert all(map(torch.equal, (found, *torch.autograd.grad(found, (x, w))), expected))
    assert backend.frame_count == 1
    (graph,) = backend.graphs
    assert [str(node.target) for node in graph.graph.nodes if "assay" in str(node.target)] == [
        "assay.test_scaled_product.default"
    ]


def test_autocast_is_off_inside_in_both() -> None:
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x, w = operands()
    expected = loss(x, w), *torch.autograd.grad(loss(x, w), (x, w))
    for function in (loss, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            found = function(x, w)
            gradients = torch.autograd.grad(found, (x, w))
        assert all(map(torch.equal, (found, *gradients), expected))


def test_products_inside_are_counted_in_eager() -> None:
    x, w = operands()
    with FlopCounterMode(display=False) as counter:
        loss(x, w).backward()
    assert counter.get_total_flops() == 3 * 2 * 4**3
