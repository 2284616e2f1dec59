"""State space duality in C++ against the loop in float64: outputs, all gradients, hard decays; graphs that hold it."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from assay.ops import ssd as op
from assay.ops.execution import Execution
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native
from assay.ops.ssd import Factors
from assay.ops.ssd_native import SSD_NATIVE

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

LOG_DECAYS = (-1e-6, -0.05, -1.0, -5.0, -20.0, -60.0)
GRID = [*LOG_DECAYS, "mixed"]
BFLOAT16 = 2**-7
Rule = Callable[..., tuple[Tensor, Tensor]]
# Called with unpacked operands, whose number a type checker does not know.
ssd: Rule = op.ssd


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    load("ssd")


@pytest.fixture(params=types_here(), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = request.param
    return chosen


def draw(
    log_decay: float | str, dtype: torch.dtype, batch: int = 2, tokens: int = 83, heads: int = 4, width: int = 5,
    groups: int = 2, state_width: int = 7,
) -> list[Tensor]:  # fmt: skip
    """x, scale, skip, log_decay, b, c, a state, gradients of outputs and of the last state, x, b and c of the
    type; "mixed" draws each log decay from the grid.
    """
    generator = torch.Generator().manual_seed(tokens)
    if isinstance(log_decay, str):
        chosen = torch.randint(len(LOG_DECAYS), (batch, tokens, heads), generator=generator)
        decays = torch.tensor(LOG_DECAYS)[chosen]
    else:
        decays = torch.full((batch, tokens, heads), log_decay)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, dy = (normal(batch, tokens, heads, width) for _ in range(2))
    b, c = (normal(batch, tokens, groups, state_width).to(dtype) for _ in range(2))
    state, d_state = (normal(batch, heads, width, state_width) for _ in range(2))
    scale, skip = normal(batch, tokens, heads), normal(heads)
    return [x.to(dtype), scale, skip, decays, b, c, state, dy, d_state]


def native(inputs: Sequence[Tensor], longest: int = 64) -> list[Tensor]:
    """y, the last state and the gradients of all seven inputs."""
    *operands, dy, d_state = inputs
    outputs, rest = SSD_NATIVE.forward(*operands, longest)
    saved = (*(operands[place] for place in SSD_NATIVE.keeps), *rest)
    return [*outputs, *SSD_NATIVE.gradient((dy, d_state), saved, longest)]


def arranged(operands: Sequence[Tensor]) -> list[Tensor]:
    """Those of `ssd`, without factors."""
    return [operands[0], *operands[3:]]


def loop(inputs: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    *operands, dy, d_state = (x.detach().to(dtype) for x in inputs)
    operands = [x.requires_grad_() for x in operands]
    y, state = ssd(*arranged(operands), Execution("loop"), Factors(*operands[1:3]))
    return [y, state, *torch.autograd.grad((y * dy).sum() + (state * d_state).sum(), operands)]


def errors(results: Sequence[Tensor], oracle: Sequence[Tensor]) -> list[float]:
    """The norm of each result's error over that of the result."""
    return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(results, oracle, strict=True)]


@pytest.mark.parametrize("log_decay", [*GRID, -0.9, -1.2])
def test_it_is_the_loop_at_any_decay(log_decay: float | str, dtype: torch.dtype) -> None:
    """In float32 to 2e-6 or no worse than the loop in float32."""
    inputs = draw(log_decay, dtype)
    oracle = loop(inputs)
    allowed = [max(2e-6, 3 * error) if dtype == torch.float32 else BFLOAT16 for error in
               errors(loop(inputs, torch.float32), oracle)]  # fmt: skip
    for longest in (16, 64):
        results = native(inputs, longest)
        assert all(result.isfinite().all() for result in results)
        found = errors(results, oracle)
        assert all(error <= limit for error, limit in zip(found, allowed, strict=True)), found


@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "width", "groups", "state_width", "longest"),
    [
        (2, 1, 4, 9, 1, 8, 64),
        (1, 5, 3, 4, 1, 3, 64),
        (3, 2, 2, 7, 2, 8, 1),
        (2, 64, 4, 16, 4, 16, 64),
        (1, 65, 6, 33, 3, 20, 64),
        (2, 130, 17, 16, 1, 68, 200),
        (2, 97, 20, 3, 1, 31, 48),
    ],
)
def test_any_shape(
    batch: int, tokens: int, heads: int, width: int, groups: int, state_width: int, longest: int, dtype: torch.dtype
) -> None:
    inputs = draw(-0.5, dtype, batch, tokens, heads, width, groups, state_width)
    inputs[3] *= torch.linspace(0, 8, heads)  # some heads are hard
    found = errors(native(inputs, longest), loop(inputs))
    assert max(found) < (2e-6 if dtype == torch.float32 else BFLOAT16), found


@pytest.mark.parametrize(("strongest", "allowed"), [(-1e6, 1e-6), (-1e9, 3e-6), (-1e10, 3e-5)])
def test_decays_far_beyond_float32_cost_digits(strongest: float, allowed: float) -> None:
    """One token in ten that forgets all, among mild ones: the bound that the op states, gradients included."""
    inputs = draw(-0.5, torch.float32)
    inputs[3][:, ::10] = strongest
    pairs = zip(native(inputs), loop(inputs), strict=True)
    assert max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs) < allowed


def test_a_weak_decay_after_many_strong_ones_keeps_its_digits() -> None:
    inputs = draw(-60.0, torch.float32, tokens=64)
    inputs[3][:, 60:] = -1e-6
    assert max(errors(native(inputs), loop(inputs))) < 1e-6


def test_at_minus_infinity_it_gives_no_number() -> None:
    inputs = draw(-0.5, torch.float32)
    inputs[3][:, 40] = -torch.inf
    assert not native(inputs)[0].isfinite().all()


def test_views_give_what_copies_give(dtype: torch.dtype) -> None:
    """x, b and c as parts of wider rows, log decays turned, gradients spread out."""
    inputs = draw("mixed", dtype)
    expected = native(inputs)
    for place in (0, 4, 5):
        x = inputs[place]
        wide = torch.full((*x.shape[:2], x[0, 0].numel() + 9), torch.nan, dtype=x.dtype)
        inputs[place] = wide[:, :, 4:-5].unflatten(2, x.shape[2:])
        inputs[place].copy_(x)
    for place in (1, 3, 7, 8):
        inputs[place] = inputs[place].transpose(1, 2).contiguous().transpose(1, 2)
    assert all(map(torch.equal, native(inputs), expected))


def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    inputs, before = draw("mixed", dtype, tokens=150), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(native(inputs))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@pytest.mark.usefixtures("_afresh")
@pytest.mark.parametrize("wide", [False, True])
def test_a_graph_holds_it_where_it_can(wide: bool, dtype: torch.dtype) -> None:
    """Not in float64, which it has not; outputs and gradients are those of eager."""
    *operands, dy, d_state = (x.double() if wide else x for x in draw("mixed", dtype))
    operands = [x.requires_grad_() for x in operands]

    execution = Execution("chunked", 32)

    def both(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return ssd(*arranged(inputs), execution, Factors(*inputs[1:3]))

    assert prepare_native(["ssd"]) == {}
    backend = CompileCounterWithBackend("aot_eager")
    found = []
    for native_too, function in ((False, both), (True, torch.compile(both, fullgraph=True, backend=backend))):
        with native_ops(native_too):
            y, state = function(*operands)
        found.append([y, state, *torch.autograd.grad((y * dy).sum() + (state * d_state).sum(), operands)])
    (graph,) = backend.graphs
    nodes = [str(node.target) for node in graph.graph.nodes if "assay" in str(node.target)]
    assert nodes == ["assay.ssd_scaled.default" if wide else "assay.ssd_scaled_native.default"]
    limit = 0.0 if wide else 2e-6 if dtype == torch.float32 else 2 * BFLOAT16
    assert max(errors(found[1], [x.double() for x in found[0]])) <= limit
