"""SiLU, its product with another input, and the squared ReLU: torch's composition, and one pass in C++ that answers to
the formula in float64.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from assay.ops import activations
from assay.ops.native.kernels import load, native_ops
from assay.ops.native.processor import types_here
from assay.ops.opaque import Differentiable, prepare_native

native = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FORMULAS: dict[str, Callable[..., Tensor]] = {
    "silu": lambda x: x * torch.sigmoid(x),
    "gated_silu": lambda gate, x: gate * torch.sigmoid(gate) * x,
    "squared_relu": lambda x: x.clamp(min=0) ** 2,
}
FAR = {torch.float32: 1e-6, torch.bfloat16: 2**-8}
"""Relative norms of differences: a few roundings, and one in bfloat16."""


def operands(name: str, shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    count = 2 if name == "gated_silu" else 1
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for _ in range(count)]


def formula(name: str, given_: list[Tensor], dy: Tensor) -> list[Tensor]:
    wide = [x.double().requires_grad_() for x in given_]
    y = FORMULAS[name](*wide)
    return [y.detach(), *torch.autograd.grad(y, wide, dy.double())]


@pytest.mark.parametrize("name", FORMULAS)
def test_torchs_composition_is_the_formula(name: str) -> None:
    given_ = [x.requires_grad_() for x in operands(name, (5, 7), torch.float64)]
    y = getattr(activations, name)(*given_)
    dy = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = [y.detach(), *torch.autograd.grad(y, given_, dy)]
    torch.testing.assert_close(found, formula(name, given_, dy))
    own = getattr(activations, f"_{name}")
    assert isinstance(own, Differentiable)
    (y,) = own(*given_)
    torch.testing.assert_close([y.detach(), *torch.autograd.grad(y, given_, dy)], formula(name, given_, dy))


@native
@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(FORMULAS)), rows=st.integers(1, 60), width=st.integers(1, 700),
    scale=st.sampled_from([1e-3, 1.0, 30.0]), dtype=st.sampled_from(types_here()), threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_cpp_form_is_the_formula(
    name: str, rows: int, width: int, scale: float, dtype: torch.dtype, threads: int
) -> None:
    load("activations")
    given_ = operands(name, (rows, width), dtype, scale)
    dy = operands("silu", (width, rows), dtype)[0].T
    form = getattr(activations, f"_{name}").native
    torch.set_num_threads(threads)
    try:
        (y,), rest = form.forward(*given_)
        found = [y, *form.gradient((dy,), (*given_, *rest))]
    finally:
        torch.set_num_threads(1)
    expected = formula(name, given_, dy)
    assert [one.dtype for one in found] == [dtype] * len(expected)
    for one, true in zip(found, expected, strict=True):
        assert one.shape == true.shape
        assert float((one.double() - true).norm()) <= FAR[dtype] * float(true.norm()) + 1e-30


@native
def test_what_is_not_finite_stays() -> None:
    load("activations")
    x = torch.tensor([float("nan"), float("inf"), -100.0, -3e38, 3e38])
    (y,), _ = activations._silu.native.forward(x)  # type: ignore[union-attr]
    torch.testing.assert_close(y, F.silu(x), equal_nan=True)
    (y,), _ = activations._squared_relu.native.forward(x)  # type: ignore[union-attr]
    torch.testing.assert_close(y, F.relu(x).square(), equal_nan=True)


@native
def test_no_gradient_passes_where_nothing_passed_forward() -> None:
    load("activations")
    x, dy = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([float("inf"), float("inf"), 3.0])
    (found,) = activations._squared_relu.native.gradient((dy,), (x,))  # type: ignore[union-attr]
    assert found.tolist() == [0.0, 0.0, 12.0]


@native
@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("name", FORMULAS)
def test_training_takes_it_and_leaves_float64_to_torch(name: str) -> None:
    assert prepare_native([]) == {}
    own, call = getattr(activations, f"_{name}"), getattr(activations, name)
    narrow, wide = (operands(name, (3, 5), dtype) for dtype in (torch.float32, torch.float64))
    assert not own.runs_native(*narrow), "outside of training"
    with native_ops(on=True):
        assert own.runs_native(*narrow)
        assert torch.equal(call(*narrow), own.native.forward(*narrow)[0][0])
        assert not own.runs_native(*wide)
        torch.testing.assert_close(call(*wide), FORMULAS[name](*wide))
        assert not own.runs_native(*(x[:0] for x in narrow)), "nothing to do"
