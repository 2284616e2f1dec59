"""The C++ form of the RWKV-7 recurrence is the float64 loop up to rounding, the same on any number of threads, and is
what compiled graphs hold.
"""

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from assay.layers.rwkv7 import RWKV7TimeMix
from assay.ops import wkv7 as op
from assay.ops import wkv7_native
from assay.ops.execution import Execution
from assay.ops.native.kernels import NAMES, native_ops
from assay.ops.native.processor import types_here

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")
RESULTS = ("y", "state", "r", "log_decay", "k", "v", "a", "b", "initial state")
Results = tuple[Tensor, ...]
MILD = (-0.05, -0.5)


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    with torch.no_grad():
        op._chunked.prepare(types_here())


def operands(
    B: int, T: int, H: int, K: int, V: int, decays: tuple[float, ...] = MILD, zero: bool = False
) -> tuple[Tensor, ...]:
    """r, log_decay, k, v, a, b, state in float64, log decays drawn from `decays`; `zero` is of the state."""
    generator = torch.Generator().manual_seed(T)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    choice = torch.randint(len(decays), (B, T, H, K), generator=generator)
    log_decay = torch.tensor(decays, dtype=torch.float64)[choice]
    removal = F.normalize(normal(B, T, H, K), dim=-1)
    r, k, b = normal(B, T, H, K), normal(B, T, H, K), removal * normal(B, T, H, K).sigmoid()
    v, state = normal(B, T, H, V), normal(B, H, K, V) * (not zero)
    return tuple(x.float().double() for x in (r, log_decay, k, v, -removal, b, state))


def slopes_of(outputs: Results) -> list[Tensor]:
    """Random weights of the outputs, such as bfloat16 has too."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(x.shape, generator=generator).bfloat16().float() for x in outputs]


def by_loop(inputs: tuple[Tensor, ...]) -> Results:
    """y, final state and the gradients of a random weighting of both, in float64, in the order of RESULTS."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    outputs = op.wkv7_loop(*leaves)
    slopes = [x.double() for x in slopes_of(outputs)]
    return (*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, slopes))


def by_native(inputs: tuple[Tensor, ...], dtype: torch.dtype = torch.float32) -> Results:
    """The same of the C++ form, in float32, with values and outputs in `dtype`."""
    native = op._chunked.native
    assert native is not None
    operands = [x.to(dtype if place == 3 else torch.float32) for place, x in enumerate(inputs)]
    outputs, rest = native.forward(*operands, 32)
    saved = (*((*operands, *outputs)[place] for place in native.keeps), *rest)
    return (
        *outputs,
        *native.gradient(tuple(s.to(y.dtype) for s, y in zip(slopes_of(outputs), outputs, strict=True)), saved, 32),
    )


def apart(found: Results, expected: Results) -> dict[str, float]:
    """How far each result is off, of the norm of what is expected."""
    pairs = zip(RESULTS, found, expected, strict=True)
    return {name: float((x - e).norm() / e.norm().clamp_min(1e-300)) for name, x, e in pairs}


SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 5, 3, 16, 16),
    (2, 16, 2, 4, 9),
    (1, 17, 2, 16, 5),
    (2, 83, 2, 19, 33),
    (1, 70, 2, 32, 32),
    (1, 48, 1, 64, 64),
    (1, 33, 1, 70, 40),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_are_those_of_the_loop(shape: tuple[int, int, int, int, int]) -> None:
    inputs = operands(*shape)
    found = apart(by_native(inputs), by_loop(inputs))
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_bfloat16_only_rounds_values_outputs_and_their_gradients(shape: tuple[int, int, int, int, int]) -> None:
    """All else is as in float32, to the last bit: at float32 values and slopes that bfloat16 has too."""
    r, log_decay, k, v, *rest = operands(*shape)
    inputs = (r, log_decay, k, v.bfloat16().double(), *rest)
    for name, x, wide in zip(RESULTS, by_native(inputs, torch.bfloat16), by_native(inputs), strict=True):
        assert x.dtype == (torch.bfloat16 if name in ("y", "v") else torch.float32)
        assert torch.equal(x, wide.to(x.dtype)), name


def test_a_state_of_zeros() -> None:
    inputs = operands(2, 21, 2, 6, 5, zero=True)
    found = apart(by_native(inputs), by_loop(inputs))
    assert max(found.values()) < 2e-6, found


@pytest.mark.parametrize("decays", [(-1e-6,), (-5.0,), (-20.0, -0.05), (-60.0,), (*[-1e-6] * 30, -35.0)], ids=str)
def test_hard_decays(decays: tuple[float, ...]) -> None:
    """Nothing is divided by a decay, so that each result is as exact as at mild ones."""
    inputs = operands(1, 83, 2, 6, 5, decays)
    found = apart(by_native(inputs), by_loop(inputs))
    assert max(found.values()) < 2e-6, found


def test_decays_that_underflow_and_decays_of_one() -> None:
    inputs = operands(1, 40, 2, 6, 5, (-1e4, -torch.inf, 0.0, -0.5))
    expected, results = by_loop(inputs), by_native(inputs)
    assert all(x.isfinite().all() for x in results)
    assert max(apart(results, expected).values()) < 2e-6


def test_one_key_removed_and_written_at_every_token() -> None:
    """The stiffest system there is: every token erases all that the one before wrote, at no decay."""
    r, log_decay, _, v, a, _, state = (x.clone() for x in operands(1, 100, 2, 6, 5))
    a[:] = a[:, :1]
    inputs = (r, torch.zeros_like(log_decay), -a, v, a, -a, state)
    found = apart(by_native(inputs), by_loop(inputs))
    assert max(found.values()) < 1e-5, found


def test_views_of_larger_tensors() -> None:
    """Tokens, heads and rows of the batch at any distance; entries apart are copied."""
    inputs = tuple(x.float() for x in operands(2, 37, 3, 8, 8))
    expected = by_native(inputs)
    wide = torch.stack(inputs[:6], 2)  # [B, T, 6, H, K]
    strided = tuple(wide[:, :, i] for i in range(5)), inputs[5].transpose(2, 3).contiguous().transpose(2, 3)
    found = by_native((*strided[0], strided[1], inputs[6].mT.contiguous().mT))
    assert all(map(torch.equal, found, expected))
    assert all(x.is_contiguous() for x in found)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    inputs = operands(2, 50, 3, 20, 12)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(by_native(inputs))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_inputs_are_left_as_they_were() -> None:
    inputs = tuple(x.float() for x in operands(1, 20, 1, 16, 16))
    before = [x.clone() for x in inputs]
    by_native(inputs)
    assert all(map(torch.equal, before, inputs))


def test_what_is_kept_is_less_than_the_python_form_keeps() -> None:
    for width in (16, 32, 64, 128):
        inputs = tuple(x.float() for x in operands(1, 256, 1, width, width))
        native = op._chunked.native
        assert native is not None
        chunk = op.chunk_length_of(Execution(), 256, width)
        ours, theirs = (sum(x.nbytes for x in f(*inputs, chunk)[1]) for f in (native.forward, op._forward))
        assert ours + sum(inputs[place].nbytes for place in native.keeps) < theirs


@pytest.mark.usefixtures("_afresh")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_compiled_graph_holds_it(dtype: torch.dtype) -> None:
    """Values of a model in bfloat16 come in it and outputs go out in it; in float64 the Python form runs."""
    if dtype == torch.bfloat16 and dtype not in types_here():
        pytest.skip("no units for bfloat16")
    *sequences, state = operands(2, 37, 2, 6, 5)
    v = sequences[3].to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [x.to(wide).requires_grad_() for x in (*sequences[:3], v, *sequences[4:], state)]
    given = [v.detach().clone().requires_grad_() if i == 3 else x for i, x in enumerate(leaves)]
    expected = by_loop(tuple(x.detach().double() for x in leaves))

    backend, execution = CompileCounterWithBackend("aot_eager"), Execution()
    compiled = torch.compile(lambda *x: op.wkv7(*x, execution), fullgraph=True, backend=backend)
    with native_ops(True):
        y, final = compiled(*given)
    assert (y.dtype, final.dtype) == (dtype, wide)
    slopes = [x.to(y.dtype) for x, y in zip(slopes_of((y, final)), (y, final), strict=True)]
    found = (y.detach(), final.detach(), *torch.autograd.grad((y, final), given, slopes))
    allowed = 2**-7 if dtype == torch.bfloat16 else 2e-6
    assert max(apart(found, expected).values()) < allowed, apart(found, expected)

    (graph,) = backend.graphs
    nodes = [str(node.target) for node in graph.graph.nodes if "assay" in str(node.target)]
    assert nodes == [f"assay.wkv7_chunked{'' if dtype == torch.float64 else '_native'}.default"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_has_the_same_outputs_and_gradients(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In eager, at the layer's own strides; in bfloat16 products round, the recurrence does not."""
    generator = torch.Generator().manual_seed(0)
    layer = RWKV7TimeMix(48, 16, layer=0, n_layers=2, first=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    x = torch.randn(2, 37, 48, generator=generator)
    called: list[str] = []
    real = wkv7_native.run
    monkeypatch.setattr(wkv7_native, "run", lambda s, f, *more: (called.append(f), real(s, f, *more)))
    results = []
    for native in (False, True):
        with native_ops(native), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            y = layer(x)[0]
        results.append((y.detach(), *torch.autograd.grad(y.float().square().mean(), tuple(layer.parameters()))))
        assert called == ([f"wkv7_{NAMES[dtype]}", f"wkv7_gradient_{NAMES[dtype]}"] if native else [])
    allowed = 1e-5 if dtype == torch.float32 else 2**-7
    for found, expected in zip(results[1], results[0], strict=True):
        assert (found.double() - expected.double()).norm() <= allowed * expected.double().norm()
