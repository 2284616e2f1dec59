"""RWKV-6's recurrence in C++ answers to the loop in float64, at every decay, length and width."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from assay.ops.execution import Execution
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native
from assay.ops.wkv6 import wkv6, wkv6_loop
from assay.ops.wkv6_native import WKV6_NATIVE

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

NAMES = ("y", "state", "r", "k", "v", "log_decay", "bonus", "initial state")
IN_TYPE = ("y", "r", "k", "v")
"""What is rounded to the type of the values; the others are in float32."""
MODERATE, HARD = (-1e-6, -0.05, -1.0, -5.0), (-1e4, -60.0, -20.0, 0.0, -0.5)
CHUNKED = Execution("chunked", 16)
Tensors = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    load("wkv6")


def operands(B: int, T: int, H: int, K: int, V: int, decays: tuple[float, ...], dtype: torch.dtype) -> Tensors:
    """r, k and v in `dtype`, log_decay, each of `decays`, bonus and state in float32."""
    generator = torch.Generator().manual_seed(T)
    shapes = ((B, T, H, K), (B, T, H, K), (B, T, H, V), (H, K), (B, H, K, V))
    r, k, v, bonus, state = (torch.randn(shape, generator=generator) for shape in shapes)
    log_decay = torch.tensor(decays)[torch.randint(len(decays), (B, T, H, K), generator=generator)]
    return r.to(dtype), k.to(dtype), v.to(dtype), log_decay, bonus, state


def slopes_like(*outputs: Tensor) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(x.shape, generator=generator).to(x.dtype) for x in outputs)


def native(inputs: Tensors) -> Tensors:
    """Outputs and gradients in the order of NAMES."""
    outputs, rest = WKV6_NATIVE.forward(*inputs, 16)
    saved = (*(inputs[place] for place in WKV6_NATIVE.keeps), *rest)
    return *outputs, *WKV6_NATIVE.gradient(slopes_like(*outputs), saved, 16)


def loop(inputs: Tensors, dtype: torch.dtype) -> Tensors:
    """The same of the loop, in `dtype`."""
    leaves = tuple(x.to(dtype).requires_grad_() for x in inputs)
    outputs = wkv6_loop(*leaves)
    slopes = slopes_like(outputs[0].to(inputs[2].dtype), outputs[1].float())
    gradients = torch.autograd.grad(outputs, leaves, [x.to(dtype) for x in slopes])
    return *(x.detach() for x in outputs), *gradients


def apart(found: Tensors, expected: Tensors) -> dict[str, float]:
    pairs = zip(NAMES, found, expected, strict=True)
    return {name: float((x.double() - e).norm() / e.norm().clamp_min(1e-30)) for name, x, e in pairs}


def assert_exact(inputs: Tensors) -> None:
    """As close to the loop in float64 as the loop in float32 is, but for the rounding of what is in bfloat16."""
    dtype = inputs[0].dtype
    found, expected = native(inputs), loop(inputs, torch.float64)
    assert [x.dtype for x in found] == [dtype if name in IN_TYPE else torch.float32 for name in NAMES]
    allowed = apart(loop(inputs, torch.float32), expected)
    for name, error in apart(found, expected).items():
        rounding = 2**-8 if dtype == torch.bfloat16 and name in IN_TYPE else 0.0
        assert error <= max(1e-6, 3 * allowed[name]) + rounding, (name, error, allowed[name])


@pytest.mark.parametrize("dtype", types_here(), ids=str)
@pytest.mark.parametrize("decays", [MODERATE, HARD], ids=["moderate", "hard"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 4, 3), (2, 16, 2, 32, 32), (1, 67, 3, 64, 64), (3, 5, 2, 7, 33)], ids=str)
def test_results_are_the_loops(
    shape: tuple[int, int, int, int, int], decays: tuple[float, ...], dtype: torch.dtype
) -> None:
    assert_exact(operands(*shape, decays, dtype))


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*(st.integers(*ends) for ends in ((1, 3), (1, 50), (1, 3), (3, 40), (3, 40)))),
    st.sampled_from([MODERATE, HARD]),
)
def test_any_shape(shape: tuple[int, int, int, int, int], decays: tuple[float, ...]) -> None:
    assert_exact(operands(*shape, decays, torch.float32))


@pytest.mark.parametrize("decay", [-2.5, -1.2, -0.6, -35.0])
def test_gradients_of_decays_lose_no_digits(decay: float) -> None:
    """Where chunks that divide by decays are at their limit."""
    assert_exact(operands(2, 83, 2, 6, 5, (decay,), torch.float32))


def test_decays_of_zero_and_of_one_leave_everything_finite() -> None:
    """exp(-inf) and exp(-1e30) are zero, and zero times anything stays zero."""
    *before, log_decay, bonus, state = operands(2, 37, 2, 6, 5, (-1e30, 0.0, -0.5), torch.float32)
    inputs = (*before, log_decay, bonus, state)
    assert_exact(inputs)
    lowest = log_decay.where(log_decay > -1e30, -torch.inf)
    for x, y in zip(native(inputs), native((*before, lowest, bonus, state)), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", types_here(), ids=str)
def test_views_give_what_copies_give(dtype: torch.dtype) -> None:
    """r, k and v as parts of one projection; log decays and state in another order of axes."""
    r, k, v, log_decay, bonus, state = operands(2, 21, 2, 16, 16, MODERATE, dtype)
    parts = torch.cat((r, k, v), -1).split(16, -1)
    views = (
        *parts,
        log_decay.transpose(1, 2).contiguous().transpose(1, 2),
        bonus.mT.contiguous().mT,
        state.mT.contiguous().mT,
    )
    for x, y in zip(native(views), native((r, k, v, log_decay, bonus, state)), strict=True):
        assert torch.equal(x, y)
        assert x.is_contiguous()


def test_threads_change_nothing() -> None:
    inputs = operands(3, 40, 3, 20, 20, MODERATE, torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(native(inputs))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_inputs_are_left_as_they_were() -> None:
    inputs = operands(1, 20, 1, 16, 16, MODERATE, torch.float32)
    before = [x.clone() for x in inputs]
    native(inputs)
    assert all(map(torch.equal, inputs, before))


@pytest.fixture
def _fresh_graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing compiled before; the C++ form is ready and asked for."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert prepare_native(["wkv6"]) == {}
    torch._dynamo.reset()
    with native_ops(True):
        yield
    torch._dynamo.reset()


def recurrence(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return wkv6(*inputs, CHUNKED)


@pytest.mark.parametrize("dtype", types_here(), ids=str)
@pytest.mark.usefixtures("_fresh_graphs")
def test_graphs_and_calls_take_it(dtype: torch.dtype) -> None:
    """And give its numbers, with and without a state; in float64 a graph holds the Python form."""
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(recurrence, fullgraph=True, backend=backend)
    inputs = operands(2, 19, 2, 8, 8, MODERATE, dtype)
    leaves = [x.clone().requires_grad_() for x in inputs]
    outputs = compiled(*leaves)
    found = *outputs, *torch.autograd.grad(outputs, leaves, slopes_like(*outputs))
    assert all(map(torch.equal, found, native(inputs)))
    eager = recurrence(*leaves)
    found = *eager, *torch.autograd.grad(eager, leaves, slopes_like(*eager))
    assert all(map(torch.equal, found, native(inputs)))
    without, zeros = compiled(*inputs[:5], None), native((*inputs[:5], torch.zeros_like(inputs[5])))
    assert all(map(torch.equal, without, zeros))
    compiled(*(x.double() for x in inputs))
    nodes = [node.target for graph in backend.graphs for node in graph.graph.nodes if "assay" in str(node.target)]
    assert [str(x) for x in nodes] == [f"assay.wkv6_chunked{form}.default" for form in ("_native", "_native", "")]


@pytest.mark.usefixtures("_fresh_graphs")
def test_types_that_differ_are_computed_in_the_wider() -> None:
    """r in float32 beside k and v in bfloat16: nothing is rounded but the outputs."""
    compiled = torch.compile(recurrence, fullgraph=True, backend="aot_eager")
    r, k, v, *rest = operands(2, 19, 2, 8, 8, MODERATE, torch.float32)
    mixed = r, k.bfloat16(), v.bfloat16(), *rest
    y, state = compiled(*mixed)
    expected, _ = wkv6_loop(*(x.double() for x in mixed))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert (y.double() - expected).norm() <= 2**-8 * expected.norm()
