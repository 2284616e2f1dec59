"""Ops in C++ for compiled graphs: they are built or refused in a line, checked before use, and give the definition's
numbers whatever the shapes, types and threads.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from assay.ops.attention import causal_attention_loop
from assay.ops.attention_blocks import _attention
from assay.ops.attention_native import ATTENTION_NATIVE
from assay.ops.cross_entropy import _summed_nats, summed_nats
from assay.ops.cross_entropy_native import CROSS_ENTROPY_NATIVE
from assay.ops.forms import OPS
from assay.ops.native import build, kernels
from assay.ops.native.build import NotBuiltError, library_of
from assay.ops.native.kernels import KERNELS, Native, native_ops
from assay.ops.native.matmul import SOURCE, compiler_options, prepare_products, replace_products, replaces_products
from assay.ops.native.processor import types_here
from assay.ops.opaque import _WITH_NATIVE, Differentiable, prepare_native
from assay.targets import IGNORED

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FAR = {torch.float32: 3e-6, torch.bfloat16: 6e-3}
"""Relative norms of differences: a few roundings."""


@pytest.fixture(autouse=True)
def _built(_cache: None) -> None:
    assert prepare_native(["attention"]) == {}


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm().detach() / expected.norm().detach().clamp_min(1e-30))


def both(native: Native, operands: tuple[Tensor, ...], option: tuple[Any, ...], slopes: tuple[Tensor, ...]) -> Any:
    """Outputs, and gradients for these at the outputs."""
    outputs, rest = native.forward(*operands, *option)
    given_ = (*operands, *outputs)
    return outputs, native.gradient(slopes, (*(given_[place] for place in native.keeps), *rest), *option)


@settings(deadline=None)
@given(
    B=st.integers(1, 2), T=st.integers(1, 150), before=st.integers(0, 200), G=st.integers(1, 2), R=st.integers(1, 3),
    K=st.integers(1, 40), V=st.integers(1, 40), window=st.none() | st.integers(2, 300),
    dtype=st.sampled_from(types_here()),
)  # fmt: skip
def test_attention_is_its_definition(
    B: int, T: int, before: int, G: int, R: int, K: int, V: int, window: int | None, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(B * T + K)
    shapes = ((B, T, G * R, K), (B, T + before, G, K), (B, T + before, G, V), (B, T, G * R, V))
    q, k, v, dy = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    (y,), found = both(ATTENTION_NATIVE, (q, k, v), ([64, window or 0, 0],), (dy,))
    wide = [x.double().requires_grad_() for x in (q, k, v)]
    expected = causal_attention_loop(*wide, window)
    # Weights and values are of the order of 1, and what they add up to may be less.
    assert float((y.double() - expected).norm().detach()) <= FAR[dtype] * (
        float(expected.norm().detach()) + y.numel() ** 0.5
    )
    slopes = torch.autograd.grad(expected, wide, dy.double())
    for one, other in zip(found, slopes, strict=True):
        # Where a query has few keys its gradient is a difference of near equals, rounded before.
        assert float((one.double() - other).norm()) <= FAR[dtype] * 4 * (
            float(other.norm()) + float(dy.double().norm())
        )


def test_attention_reads_views_and_gives_the_same_bits_whatever_the_threads() -> None:
    qkv = torch.randn(2, 90, 3, 4, 20, generator=torch.Generator().manual_seed(0))
    dy = torch.randn(2, 90, 4, 20, generator=torch.Generator().manual_seed(1))
    views, copies = qkv.unbind(2), tuple(x.contiguous() for x in qkv.unbind(2))
    results = []
    for operands, threads in ((views, 1), (copies, 1), (views, 2)):
        torch.set_num_threads(threads)
        (y,), found = both(ATTENTION_NATIVE, operands, ([64, 0, 0],), (dy,))
        results.append((y, *found))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@settings(deadline=None)
@given(
    N=st.integers(1, 200), D=st.integers(1, 50), V=st.integers(2, 600), ignored=st.integers(0, 3),
    types=st.sampled_from([(a, b) for a in types_here() for b in types_here() if a == torch.float32 or a == b]),
)  # fmt: skip
def test_cross_entropy_is_its_definition(
    N: int, D: int, V: int, ignored: int, types: tuple[torch.dtype, torch.dtype]
) -> None:
    generator = torch.Generator().manual_seed(N + D)
    hidden, weight = torch.randn(N, D, generator=generator).to(types[0]), torch.randn(V, D, generator=generator)
    targets = torch.randint(V, (N,), generator=generator)
    targets[torch.arange(N) % 4 < ignored] = IGNORED
    (total,), found = both(CROSS_ENTROPY_NATIVE, (hidden, weight, targets), (types[1],), (torch.tensor(0.5),))
    wide = [x.to(types[1]).double().requires_grad_() for x in (hidden, weight)]
    expected = F.cross_entropy(wide[0] @ wide[1].T, targets, reduction="sum", ignore_index=IGNORED)
    assert float(total) == pytest.approx(float(expected.detach()), rel=2e-6, abs=1e-6)
    far = FAR[torch.bfloat16 if torch.bfloat16 in types else torch.float32]
    slopes = torch.autograd.grad(expected, wide, torch.tensor(0.5).double())
    for one, other, factor in zip(found, slopes, reversed(wide), strict=True):
        # Where a target is all but certain its slope is 1 less a share that is rounded near 1.
        assert float((one.double() - other).norm()) <= far * float(other.norm() + factor.detach().norm())


def test_cross_entropy_in_chunks_of_tokens_and_with_two_threads() -> None:
    """A vocabulary of which 8 MB of logits are fewer tokens than there are."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(150, 4, generator=generator), torch.randn(20_000, 4, generator=generator)
    targets = torch.randint(20_000, (150,), generator=generator)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        (total,), found = both(CROSS_ENTROPY_NATIVE, (hidden, weight, targets), (torch.float32,), (torch.tensor(1.0),))
        results.append((total, *found))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
    wide = [x.double().requires_grad_() for x in (hidden, weight)]
    expected = F.cross_entropy(wide[0] @ wide[1].T, targets, reduction="sum")
    assert apart(results[0][0], expected.detach()) < FAR[torch.float32]
    for one, other in zip(results[0][1:], torch.autograd.grad(expected, wide), strict=True):
        assert apart(one, other) < FAR[torch.float32]


@pytest.mark.parametrize("target", [-1, 5])
def test_a_target_outside_of_the_vocabulary_is_refused(target: int) -> None:
    hidden, weight, targets = torch.ones(2, 3), torch.ones(5, 3), torch.tensor([0, target])
    with pytest.raises(IndexError, match="1 targets are outside of the vocabulary of 5"):
        CROSS_ENTROPY_NATIVE.forward(hidden, weight, targets, torch.float32)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("assay.ops.native.matmul.slow_products", lambda: True)
    assert prepare_products() is None
    assert replaces_products()
    yield
    KERNELS.loaded.discard(SOURCE)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("dtype", types_here())
@pytest.mark.parametrize("shape", [(1, 8, 8), (33, 17, 5), (70, 1025, 300), (129, 2500, 65)])
def test_products_are_their_definition_in_any_layout(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    M, K, N = shape
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(M, K, generator=generator).to(dtype), torch.randn(K, N, generator=generator).to(dtype)
    wide = torch.zeros(M, 3 * K, dtype=dtype)
    wide[:, ::3] = a
    for left in (a, a.t().contiguous().t(), wide[:, ::3]):
        for right in (b, b.t().contiguous().t()):
            found = torch.ops.assay.matmul(left, right)
            assert apart(found, a.double() @ b.double()) < FAR[dtype]


@pytest.mark.usefixtures("products")
def test_a_graph_has_its_products_of_float32_replaced_and_no_others() -> None:
    def products_of(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return (x @ y).sum() + (z @ z).sum() + (x[:2] @ y).sum()

    operands = torch.randn(20, 30), torch.randn(30, 40), torch.randn(20, 20).bfloat16()
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(products_of, tracing_mode="fake")(*operands).graph
    replace_products(graph)
    targets = [node.target for node in graph.nodes if node.op == "call_function"]
    assert targets.count(torch.ops.assay.matmul.default) == 1
    assert targets.count(torch.ops.aten.mm.default) == 2, "neither bfloat16 nor two rows"


def test_products_stay_torchs_where_torch_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.ops.native.matmul.slow_products", lambda: False)
    assert prepare_products() is None
    assert not replaces_products()
    assert compiler_options() is None


def test_calls_and_graphs_take_the_forms_in_cpp_where_they_are_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    called: list[str] = []
    real = kernels.run
    monkeypatch.setattr("assay.ops.attention_native.run", lambda s, f, *more: (called.append(f), real(s, f, *more)))
    monkeypatch.setattr("assay.ops.cross_entropy_native.run", lambda s, f, *more: (called.append(f), real(s, f, *more)))
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator, requires_grad=True) for shape in ((1, 9, 2, 4), (11, 8)))
    targets = torch.arange(9)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        (y,) = _attention(x, x, x, option=([64, 0, 1],))
        return summed_nats(y.flatten(2)[0], weight, targets)

    expected = torch.autograd.grad(loss(x, weight), (x, weight))
    assert called == []
    wanted = {"attention_float32", "cross_entropy_float32_float32", "attention_gradient_float32"}
    torch._dynamo.reset()
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        with native_ops(True):
            value = function(x, weight)
        found = torch.autograd.grad(value, (x, weight))
        assert wanted <= set(called)
        torch.testing.assert_close(found, expected)
        called.clear()
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", types_here())
def test_what_earlier_calls_left_in_memory_changes_nothing(dtype: torch.dtype) -> None:
    """Each function's example before and after calls of all functions with operands that are no numbers."""
    assert prepare_native(OPS.names()) == {}  # which imports them
    forms = [function.native for function in _WITH_NATIVE if function.native is not None]
    assert len(forms) >= 7
    for native in forms:
        operands, option = native.example(dtype)
        before = whole_call(native, operands, option)
        for other in forms:
            poisoned, with_option = other.example(dtype)
            whole_call(other, tuple(_poison(x) for x in poisoned), with_option)
        for one, two in zip(before, whole_call(native, operands, option), strict=True):
            assert torch.equal(one, two), native.source


def whole_call(native: Native, operands: tuple[Tensor, ...], option: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """All outputs and gradients, for ones at the outputs."""
    outputs, rest = native.forward(*operands, *option)
    slopes = tuple(torch.ones_like(y) for y in outputs)
    given_ = (*operands, *outputs)
    return *outputs, *native.gradient(slopes, (*(given_[place] for place in native.keeps), *rest), *option)


def _poison(x: Tensor) -> Tensor:
    return torch.full_like(x, torch.nan) if x.dtype.is_floating_point else x


def test_without_a_compiler_the_reason_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    with pytest.raises(NotBuiltError, match=r"^no C\+\+ compiler found$"):
        library_of("attention")


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-include", "no_such_header.h"))
    with pytest.raises(NotBuiltError, match="no_such_header") as error:
        library_of("attention")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "native").iterdir()) == []


def test_a_form_whose_check_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(*operands: Any) -> Any:
        (y,), rest = ATTENTION_NATIVE.forward(*operands)
        return (y * 1.01,), rest

    wrong = Native(
        "attention", ("attention",), off, ATTENTION_NATIVE.gradient, ATTENTION_NATIVE.example, keeps=(0, 1, 2, 3)
    )
    forward, gradient, keeps = _attention._python
    monkeypatch.setattr("assay.ops.opaque._WITH_NATIVE", [])
    function = Differentiable(
        "test_wrong_attention", forward, gradient, outputs=1, keeps=keeps, option="int[]", native=wrong
    )
    refused = prepare_native(["attention"])
    assert "its check failed in float32: result 0" in refused["test_wrong_attention"]
    q = torch.ones(1, 3, 1, 2)
    with native_ops(True):
        assert not function._takes_native((q, q, q), ([64, 0, 1],))
    del KERNELS.refused["test_wrong_attention"]


def test_the_functions_with_cpp_forms_take_no_other_types() -> None:
    double, single = (torch.ones(1, 3, 1, 2, dtype=dtype) for dtype in (torch.float64, torch.float32))
    hidden, weight = torch.ones(3, 2), torch.ones(4, 2)
    with native_ops(True):
        assert _attention._takes_native((single, single, single), ([64, 0, 1],))
        assert not _attention._takes_native((double, double, double), ([64, 0, 1],))
        assert _summed_nats._takes_native((hidden, weight, torch.arange(3)), (torch.float32,))
        assert not _summed_nats._takes_native((hidden, weight.double(), torch.arange(3)), (torch.float32,))
    assert not _attention._takes_native((single, single, single), ([64, 0, 1],))
