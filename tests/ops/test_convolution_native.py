"""The short causal convolution in C++ against its loop in float64, gradients too; graphs that hold it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from assay.ops.convolution import causal_convolution, convolution_loop
from assay.ops.convolution_native import CONVOLUTION_NATIVE, WIDEST
from assay.ops.execution import Execution
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    load("convolution")


@pytest.fixture(params=types_here(), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = request.param
    return chosen


def draw(dtype: torch.dtype, batch: int = 2, tokens: int = 83, channels: int = 37, width: int = 4) -> list[Tensor]:
    """x, a state, weight, bias and the gradient of the outputs; filters in float32."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((batch, tokens, channels), (batch, width - 1, channels), (channels, width), (channels,))
    x, state, weight, bias, dy = (torch.randn(shape, generator=generator) for shape in (*shapes, shapes[0]))
    return [x.to(dtype), state.to(dtype), weight, bias, dy.to(dtype)]


def native(inputs: Sequence[Tensor]) -> list[Tensor]:
    """y, and the gradients of x, state, weight and bias."""
    *operands, dy = inputs
    outputs, _ = CONVOLUTION_NATIVE.forward(*operands)
    return [*outputs, *CONVOLUTION_NATIVE.gradient((dy,), tuple(operands))]


def loop(inputs: Sequence[Tensor]) -> list[Tensor]:
    *operands, dy = (x.detach().double() for x in inputs)
    x, state, weight, bias = (operand.requires_grad_() for operand in operands)
    y = convolution_loop(x, state, weight, bias)
    return [y, *torch.autograd.grad((y * dy).sum(), (x, state, weight, bias))]


@pytest.mark.parametrize(
    ("batch", "tokens", "channels", "width"),
    [(2, 83, 37, 4), (1, 1, 1, 1), (1, 2, 5, 4), (3, 1, 16, 2), (2, 200, 20, 1), (1, 1100, 33, WIDEST), (2, 64, 48, 3)],
)
def test_it_is_the_loop(batch: int, tokens: int, channels: int, width: int, dtype: torch.dtype) -> None:
    """Results in bfloat16 are rounded once; those of the filters are in float32 either way."""
    inputs = draw(dtype, batch, tokens, channels, width)
    results = native(inputs)
    assert [x.dtype for x in results] == [dtype, dtype, dtype, torch.float32, torch.float32]
    for result, true in zip(results, loop(inputs), strict=True):
        allowed = 1e-6 if result.dtype == torch.float32 else 2**-8
        assert (result.double() - true).norm() <= allowed * true.norm()


def test_filters_in_bfloat16_have_such_gradients() -> None:
    inputs = draw(torch.float32)
    inputs[2:4] = (x.bfloat16() for x in inputs[2:4])
    results = native(inputs)
    assert [x.dtype for x in results[3:]] == [torch.bfloat16] * 2
    for result, true in zip(results, loop(inputs), strict=True):
        assert (result.double() - true).norm() <= 2**-8 * true.norm()


def test_views_give_what_copies_give(dtype: torch.dtype) -> None:
    inputs = draw(dtype)
    expected = native(inputs)
    wide = torch.full((2, 83, 60), torch.nan, dtype=dtype)
    wide[:, :, 11:48] = inputs[0]
    inputs[0] = wide[:, :, 11:48]
    inputs[1:] = (x.mT.contiguous().mT if x.dim() > 1 else x for x in inputs[1:])
    assert all(map(torch.equal, native(inputs), expected))


def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    inputs, before = draw(dtype, tokens=300), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(native(inputs))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@pytest.mark.usefixtures("_afresh")
@pytest.mark.parametrize(("width", "wide"), [(4, False), (4, True), (9, False)])
def test_a_graph_holds_it_where_it_can(width: int, wide: bool, dtype: torch.dtype) -> None:
    """Not in float64 and not with filters that are too wide; outputs and gradients are those of eager."""
    *operands, dy = (x.double() if wide else x for x in draw(dtype, width=width))
    x, state, weight, bias = (operand.requires_grad_() for operand in operands)

    execution = Execution("chunked")

    def both(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return causal_convolution(x, weight, bias, state, execution)

    assert prepare_native(["convolution"]) == {}
    backend = CompileCounterWithBackend("aot_eager")
    found = []
    for native_too, function in ((False, both), (True, torch.compile(both, fullgraph=True, backend=backend))):
        with native_ops(native_too):
            y, after = function(x, state, weight, bias)
        loss = (y * dy).sum() + after.float().square().sum()
        found.append([y, after, *torch.autograd.grad(loss, (x, state, weight, bias), materialize_grads=True)])
    (graph,) = backend.graphs
    nodes = [str(node.target) for node in graph.graph.nodes if "assay" in str(node.target)]
    here = not wide and width <= WIDEST
    assert nodes == ["assay.shifted_sum_native.default" if here else "assay.shifted_sum.default"]
    for one, other in zip(*found, strict=True):
        limit = 0.0 if not here else 1e-6 if one.dtype == torch.float32 else 2**-9
        assert (one.double() - other.double()).norm() <= limit * one.double().norm()
