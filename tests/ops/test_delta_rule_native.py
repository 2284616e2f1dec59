"""The delta rule in C++ against the loop in float64: outputs, the last state and every gradient, over all decays."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from assay.ops.delta_rule import ErrorTaken, delta_rule, delta_rule_loop
from assay.ops.delta_rule_native import DELTA_RULE_NATIVE
from assay.ops.execution import Execution
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

ERRORS: list[ErrorTaken] = ["after", "before"]
DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(torch.bfloat16 not in types_here(), reason="no units for bfloat16 here"),
    ),
]
ALLOWED = {torch.float32: 2e-6, torch.bfloat16: 4 * 2**-8}
"""Of the norm of each result."""
SHAPES = [  # B, T, H, K, V, the longest chunk
    (4, 1, 3, 2, 1, 32),
    (2, 5, 2, 4, 4, 32),
    (1, 32, 1, 16, 32, 32),
    (2, 33, 3, 7, 5, 32),
    (3, 75, 2, 21, 19, 64),
    (1, 50, 2, 17, 40, 16),
    (2, 130, 1, 64, 128, 32),
    (1, 20, 1, 3, 3, 1),
]


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    load("delta_rule")


def draw(shape: Sequence[int], dtype: torch.dtype, log_decay: float | None = None) -> tuple[Tensor, ...]:
    """q, k of length 1, v in `dtype`, beta in 0...1, log decays, mild ones where none is given, and a state."""
    B, T, H, K, V = shape
    generator = torch.Generator().manual_seed(0)
    q, k, v, state = (
        torch.randn(size, generator=generator) for size in ((B, T, H, K), (B, T, H, K), (B, T, H, V), (B, H, K, V))
    )
    beta, decays = torch.rand(2, B, T, H, generator=generator).unbind()
    decays = -decays if log_decay is None else torch.full((B, T, H), log_decay)
    k = torch.nn.functional.normalize(k, dim=-1)
    return q.to(dtype), k.to(dtype), v.to(dtype), beta, decays, state


def slopes(operands: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients of y and of the last state."""
    generator = torch.Generator().manual_seed(1)
    v, state = operands[2], operands[5]
    return torch.randn(v.shape, generator=generator).to(v.dtype), torch.randn(state.shape, generator=generator)


def native(operands: Sequence[Tensor], gradients: tuple[Tensor, ...], how: list[int]) -> tuple[Tensor, ...]:
    """y, the last state, and the gradients of the six operands."""
    outputs, rest = DELTA_RULE_NATIVE.forward(*operands, how)
    given = (*operands, *outputs)
    saved = (*(given[place] for place in DELTA_RULE_NATIVE.keeps), *rest)
    return *outputs, *DELTA_RULE_NATIVE.gradient(gradients, saved, how)


def loop(operands: Sequence[Tensor], gradients: Sequence[Tensor], error: ErrorTaken) -> tuple[Tensor, ...]:
    """The same by the definition in float64."""
    q, k, v, beta, log_decay, state = inputs = [x.double().requires_grad_() for x in operands]
    outputs = delta_rule_loop(q, k, v, beta, log_decay, state, error)
    return *outputs, *torch.autograd.grad(outputs, inputs, [x.double() for x in gradients])


def apart(results: Sequence[Tensor], oracle: Sequence[Tensor]) -> list[float]:
    """How far each result is from the oracle, of the norm of the latter."""
    return [((a.double() - b).norm() / b.norm().clamp_min(1e-30)).item() for a, b in zip(results, oracle, strict=True)]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_loop(shape: tuple[int, ...], dtype: torch.dtype, error: ErrorTaken) -> None:
    *shape_, chunk = shape
    operands = draw(shape_, dtype)
    gradients = slopes(operands)
    results = native(operands, gradients, [chunk, int(error == "before"), 0])
    assert [x.dtype for x in results[:4]] == [dtype, torch.float32, dtype, dtype]
    losses = apart(results, loop(operands, gradients, error))
    assert max(losses) < ALLOWED[dtype], losses


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_decays(dtype: torch.dtype) -> None:
    """Those that are given are not read, and have no gradient."""
    operands = draw((2, 75, 2, 21, 19), dtype, log_decay=0.0)
    gradients = slopes(operands)
    unread = (*operands[:4], torch.full_like(operands[4], torch.nan), operands[5])
    results, oracle = native(unread, gradients, [32, 0, 1]), loop(operands, gradients, "after")
    assert not results[6].any()
    assert max(apart(results[:6] + results[7:], oracle[:6] + oracle[7:])) < ALLOWED[dtype]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("log_decay", [-1e-6, -0.05, -5.0, -20.0, -60.0])
def test_hard_decays(log_decay: float, error: ErrorTaken) -> None:
    """A weak one after many strong ones too, which a difference of float32 sums would lose."""
    operands = draw((1, 64, 2, 16, 16), torch.float32, log_decay)
    operands[4][:, 60:] = -1e-6
    gradients = slopes(operands)
    results = native(operands, gradients, [32, int(error == "before"), 0])
    assert all(x.isfinite().all() for x in results)
    losses = apart(results, loop(operands, gradients, error))
    assert max(losses) < 3e-6, losses


@pytest.mark.parametrize(("strongest", "allowed"), [(-1e6, 1e-6), (-1e9, 3e-6), (-1e10, 3e-5)])
def test_decays_far_beyond_float32_cost_digits(strongest: float, allowed: float) -> None:
    operands = draw((2, 83, 3, 6, 5), torch.float32, -0.5)
    operands[4][:, ::10] = strongest
    gradients = slopes(operands)
    losses = apart(native(operands, gradients, [32, 0, 0]), loop(operands, gradients, "after"))
    assert max(losses) < allowed, losses


def test_a_decay_of_minus_infinity_is_not_passed_over() -> None:
    operands = draw((2, 83, 3, 6, 5), torch.float32, -0.5)
    operands[4][:, 40] = -torch.inf
    assert not native(operands, slopes(operands), [32, 0, 0])[0].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_and_threads_change_no_bit(dtype: torch.dtype) -> None:
    """Operands that are parts of larger tensors, or whose heads stand before the tokens, on one thread and on two."""
    operands = draw((2, 45, 3, 12, 20), dtype)
    gradients = slopes(operands)
    expected = native(operands, gradients, [32, 0, 0])
    q, k, v, beta, log_decay, state = operands
    q, k = torch.cat((q, k), 3).split(12, 3)
    v, dy = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (v, gradients[0]))
    beta, log_decay = torch.stack((beta, log_decay), 3).unbind(3)
    state = state.mT.contiguous().mT
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found = native((q, k, v, beta, log_decay, state), (dy, gradients[1]), [32, 0, 0])
            assert all(map(torch.equal, found, expected))
            assert all(x.is_contiguous() for x in found)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("_afresh")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_a_compiled_graph_holds_it(dtype: torch.dtype) -> None:
    """Where it can do the call: not in float64. Without a state and without decays, as a whole with the gradients."""
    backend = CompileCounterWithBackend("aot_eager")
    execution = Execution("chunked", 32)

    def rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
        y, state = delta_rule(q, k, v, beta, None, None, execution)
        return y.sum() + state.sum()

    operands = draw((2, 40, 2, 16, 32), dtype, log_decay=0.0)
    inputs = [x.clone().requires_grad_() for x in operands[:4]]
    assert prepare_native(["delta_rule"]) == {}
    with native_ops(True):
        found = torch.autograd.grad(torch.compile(rule, fullgraph=True, backend=backend)(*inputs), inputs)
    (graph,) = backend.graphs
    nodes = [str(node.target) for node in graph.graph.nodes if "assay" in str(node.target)]
    assert nodes == [f"assay.delta_rule_chunked{'' if dtype == torch.float64 else '_native'}.default"]
    ones = torch.ones(operands[2].shape), torch.ones(operands[5].shape)
    expected = loop((*operands[:5], torch.zeros_like(operands[5])), ones, "after")[2:6]
    assert max(apart(found, expected)) < ALLOWED.get(dtype, 1e-6)
